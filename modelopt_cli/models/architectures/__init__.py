"""Models: everything a file's `model.type` can name. One file each."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

__all__ = ["Architecture", "Shapes"]


@dataclass(frozen=True)
class Shapes:
    """What a model must take in and give out."""

    inputs: tuple[int, ...]  # of one sample, after preprocessing: (features,), (channels, height, width), (length,)
    outputs: int  # logits: classes, labels or regression outputs
    task: Task
    tokens: int | None = None  # vocabulary size, when inputs are integer tokens

    def check_fit(self, data: Shapes, origin: object) -> None:
        """Raise UsageError where a model of these shapes, saved in `origin`, does not fit the data's."""
        for name in ("inputs", "outputs", "task"):
            own, asked = getattr(self, name), getattr(data, name)
            if own != asked:
                raise UsageError(
                    f"{origin} was trained for {name} {own}, but the data has {name} {asked}; use the same data"
                )


class Architecture(Strategy):
    """Base of all models."""

    family: ClassVar[str] = "models"
    framework: ClassVar[Literal["torch", "sklearn"]] = "torch"

    @abstractmethod
    def build(self, shapes: Shapes, seed: int) -> Any:
        """A fresh `nn.Module` mapping (B, *inputs) to (B, outputs) logits, or an unfitted scikit-learn estimator.

        Initial weights (or `random_state`) derive from `seed`; the caller has seeded torch's global generator with it.
        Raises UsageError where the options do not fit the shapes.
        """

    def check(self) -> None:
        """What can be verified only by importing; called before a run. Raises UsageError."""
