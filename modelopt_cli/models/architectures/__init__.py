"""Models: everything a file's `model.type` can name. One file each."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

__all__ = ["Architecture", "SavedModel", "Shapes"]

_LARGEST_SAMPLE = 1 << 24  # numbers of one
_LARGEST_SIZE = (1 << 31) - 1


@dataclass(frozen=True)
class Shapes:
    """What a model must take in and give out."""

    inputs: tuple[int, ...]  # of one sample, after preprocessing: (features,), (channels, height, width), (length,)
    outputs: int  # logits: classes, labels or regression outputs
    task: Task
    tokens: int | None = None  # vocabulary size, when inputs are integer tokens

    @classmethod
    def from_plain(cls, plain: Any) -> Shapes:
        """From a file. Raises ValueError for what no model has."""
        shapes = cls(**{**plain, "inputs": tuple(plain["inputs"])})
        sizes = (*shapes.inputs, shapes.outputs, 1 if shapes.tokens is None else shapes.tokens)
        if not shapes.inputs or any(type(size) is not int or size < 1 for size in sizes):
            raise ValueError(f"its model would take {shapes.inputs!r:.100} and give {shapes.outputs!r:.100}")
        if math.prod(shapes.inputs) > _LARGEST_SAMPLE or max(sizes) > _LARGEST_SIZE:
            raise ValueError(f"its model would take samples of shape {shapes.inputs!r:.100}, which are too large")
        if shapes.task not in ("classification", "multilabel", "regression"):
            raise ValueError(f"its task is {shapes.task!r:.100}")
        return shapes

    def check_fit(self, data: Shapes, origin: object) -> None:
        """Raise UsageError where a model of these shapes, saved in `origin`, does not fit the data's."""
        for name in ("inputs", "outputs", "task"):
            own, asked = getattr(self, name), getattr(data, name)
            if own != asked:
                raise UsageError(
                    f"{origin} was trained for {name} {own}, but the data has {name} {asked}; use the same data"
                )


class SavedModel(Protocol):
    """What a model that goes on from a saved one has of it: a Checkpoint of models/files/checkpoints.py."""

    architecture: Architecture
    extra: dict[str, Any]  # plain values and tensors: masks, kept indices


class Architecture(Strategy):
    """Base of all models."""

    family: ClassVar[str] = "models"
    framework: ClassVar[Literal["torch", "sklearn"]] = "torch"
    builds_on_meta: ClassVar[bool] = False
    """Whether `build` works where tensors have no values (torch's meta device), so that a file's claims are free."""
    is_trained: ClassVar[bool | None] = False
    """Whether what it builds has been trained before; None: it may, which its own code alone knows."""

    @abstractmethod
    def build(self, shapes: Shapes, seed: int) -> Any:
        """A fresh `nn.Module` mapping (B, *inputs) to (B, outputs) logits, or an unfitted scikit-learn estimator.

        Initial weights (or `random_state`) derive from `seed`; the caller has seeded torch's global generator with it.
        Raises UsageError where the options do not fit the shapes.
        """

    def saved(self) -> SavedModel | None:
        """The saved model that it goes on from, with its masks and kept units; None for a new one."""
        return None

    def check(self) -> None:
        """What can be verified only by importing; called before a run. Raises UsageError."""
