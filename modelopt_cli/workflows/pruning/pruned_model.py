"""A module while it is pruned: what it was before, and how it did at each turn. What masks and removed units share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from modelopt_cli.experiment.expected_metrics import CHANGES
from modelopt_cli.results.report import Table
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.training.hooks import StepHook
    from modelopt_cli.training.trainer import Trainer

_PRIMARY = ("accuracy", "r2")  # the metric that stands in the table of rounds beside the loss


class PrunedModel(ABC):
    """`trainer` is the one at work: it evaluates. `note` keeps a state by name (before, pruned)."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.module = trainer, trainer.module
        self._states: dict[str, dict[str, Any]] = {}
        self._rounds: list[dict[str, Any]] = []
        self.noise: list[str] = []  # what made timings unsure
        self._judged: dict[str, dict[str, float]] = {"before": {}, "pruned": {}, "final": {}}

    @property
    @abstractmethod
    def gone(self) -> tuple[int, int]:
        """(what has gone, all that may go), as a pruning's amount counts."""

    @property
    @abstractmethod
    def spared(self) -> Mapping[str, str]:
        """What may not go -> why."""

    @property
    @abstractmethod
    def warnings(self) -> list[str]:
        """What the user should know about what was done."""

    def check(self) -> None:
        """Before training: raise UsageError for what it does not change and would stop the pruning after it."""
        return

    @abstractmethod
    def prune(self, target: float) -> None:
        """Prune to the share `target` of all that may go, or by this threshold. May give `module` another one."""

    @abstractmethod
    def hooks(self, *more: StepHook) -> list[StepHook]:
        """What takes part in every optimizer step while it is trained; `more` in their right place among them."""

    @abstractmethod
    def settle(self) -> None:
        """After training: what is gone is gone."""

    @abstractmethod
    def progress(self) -> dict[str, float]:
        """How far it went, for each step's report."""

    @abstractmethod
    def sizes(self, checkpoint: Checkpoint) -> dict[str, float]:
        """What the model costs now. `checkpoint`: it, with numbers that stand for its metrics."""

    def speed(self) -> dict[str, float]:
        """How long the model takes now, measured: nothing where what is gone makes it no faster."""
        return {}

    @abstractmethod
    def recorded(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with what was done, so that it can be loaded and gone on with."""

    @abstractmethod
    def tables(self) -> dict[str, Table]:
        """`stages`: before, straight after the last pruning, at the end; `layers`; `rounds`; `sensitivity`."""

    @abstractmethod
    def amount_for_size(self, checkpoint: Checkpoint) -> float:
        """The share whose removal brings a budget that depends on the trained weights."""

    @abstractmethod
    def restore(self, trained: Checkpoint) -> None:
        """Become a model that was pruned before from the same setting. May give `module` another one."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave. May give `module` another one."""

    @abstractmethod
    def as_it_was(self, name: str) -> nn.Module | None:
        """A module in the state that was kept under this name; None: there is none."""

    @abstractmethod
    def _snapshot(self) -> dict[str, Any]:
        """The module's state, as it is now."""

    @abstractmethod
    def _standing_at(self, name: str) -> AbstractContextManager[Trainer]:
        """A trainer that evaluates the state that was kept under this name."""

    def note(self, name: str) -> None:
        """Keep the module's state, as it is now, under this name; `before` once."""
        if name != "before" or name not in self._states:
            self._states[name] = self._snapshot()

    def begin_round(self, stage: int) -> None:
        """A stage is about to prune."""
        self._rounds.append({"round": stage + 1})

    def end_round(self, stage: int, *, recovered: bool) -> None:
        """A stage has ended: how far it went, and how the model does."""
        self._rounds[stage] |= {**self._went(), "recovered": recovered, **self.quick_metrics()}

    @abstractmethod
    def _went(self) -> dict[str, Any]:
        """How far a round went, for the table of rounds."""

    def quick_metrics(self) -> dict[str, float]:
        """The loss, and the task's first metric, on the validation split (without one, on the train split)."""
        split = "validation" if self.trainer.has("validation") else "train"
        found = self.trainer.evaluate(split, [f"{split}.loss", *(f"{split}.{name}" for name in _PRIMARY)])
        return {f"validation.{name.partition('.')[2]}": value for name, value in found.items()}

    def judge(self, split: str) -> dict[str, float]:
        """Every metric of the module on `split`; beside it the drop (for losses and errors the rise) since before."""
        for name in self._states:
            with self._standing_at(name) as trainer:
                self._judged[name] |= trainer.evaluate(split)
        found = self.trainer.evaluate(split)
        self._judged["final"] |= found
        before = self._judged["before"]
        return {**found, **{key: value for name in found for key, value in _change(name, found, before)}}

    def judged(self, name: str) -> Mapping[str, float]:
        """Metrics of the state of that name, as far as they were judged."""
        return dict(self._judged[name])

    def _round_tables(
        self, sensitivity: Sequence[tuple[str, float, float]], columns: Sequence[str]
    ) -> dict[str, Table]:

        found = {}
        if self._rounds:
            found["rounds"] = Table.from_records(self._rounds)
        if sensitivity:
            rows: list[list[Any]] = [list(row) for row in sensitivity]
            found["sensitivity"] = Table(columns=list(columns), rows=rows)
        return found


def _change(name: str, now: Mapping[str, float], before: Mapping[str, float]) -> list[tuple[str, float]]:
    if name not in before:
        return []
    lower = name.rpartition(".")[2] in LOWER_IS_BETTER
    return [(name + CHANGES[lower], now[name] - before[name] if lower else before[name] - now[name])]
