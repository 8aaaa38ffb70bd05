"""A model of a distillation that is finished: its weights after the last and the best epoch, kept in a stage file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from modelopt_cli.core.consent import Consent
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.models.files.checkpoints import Checkpoint

Turn = Literal["last", "best"]
"""After which epoch."""
_EXTRA = "learned"


class StageFacts(TypedDict):
    """What a stage file holds beside the checkpoint. Older files have neither `curve` nor `by`."""

    kept: Turn
    states: Mapping[Turn, Mapping[str, Any]]
    epochs: Mapping[Turn, int]
    seconds: float
    curve: NotRequired[list[tuple[int, dict[str, float]]]]
    by: NotRequired[int | None]


@dataclass
class TrainedModel:
    """`checkpoint.model` holds the weights of the turn that is kept, by the settings that it was trained with."""

    name: str
    checkpoint: Checkpoint
    kept: Turn = "last"
    states: dict[Turn, Mapping[str, Any]] = field(default_factory=dict)  # of a torch module that was trained here
    epochs: dict[Turn, int] = field(default_factory=dict)
    seconds: float = 0.0
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # of its training
    by: int | None = None  # the seed of the run that trained it: of several runs, the tables of that one show it

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What there is to be judged; a model that came as a file has one turn."""
        return tuple(self.states) or ("last",)

    @contextmanager
    def standing_at(self, turn: Turn) -> Iterator[None]:
        """The weights of that turn are in the module."""
        if turn == self.kept or turn not in self.states:
            yield
            return
        module: nn.Module = self.checkpoint.model
        module.load_state_dict(self.states[turn])
        try:
            yield
        finally:
            module.load_state_dict(self.states[self.kept])

    def module(self, student: Prepared) -> nn.Module:
        """As a module in the student's place. Raises UsageError for a model of other data."""
        from modelopt_cli.distillation.adapting import in_students_place

        return in_students_place(self.checkpoint, student, self.name)

    @property
    def parameters(self) -> int | None:
        """How many it has; None for an estimator."""
        parameters = getattr(self.checkpoint.model, "parameters", None)
        return None if parameters is None else sum(item.numel() for item in parameters())

    def save(self, path: Path) -> None:
        """Write the stage file."""
        from modelopt_cli.models.files import checkpoints

        facts: StageFacts = {
            "kept": self.kept,
            "states": self.states,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "curve": [[epoch, metrics] for epoch, metrics in self.curve],  # type: ignore[misc]  # JSON has no tuples
            "by": self.by,
        }
        extra = {**self.checkpoint.extra, _EXTRA: facts}
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoints.save(path, replace(self.checkpoint, extra=extra), durable=False)

    @classmethod
    def load(cls, path: Path, name: str, consent: Consent) -> TrainedModel:
        """The inverse of `save`."""
        from modelopt_cli.models.files import checkpoints

        checkpoint = checkpoints.load(path, consent)
        facts: StageFacts = checkpoint.extra.pop(_EXTRA)
        return cls(
            name,
            checkpoint,
            facts["kept"],
            dict(facts["states"]),
            dict(facts["epochs"]),
            facts["seconds"],
            [(int(epoch), dict(metrics)) for epoch, metrics in facts.get("curve", ())],
            facts.get("by"),
        )
