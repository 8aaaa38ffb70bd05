"""Data sources: everything a file's `data.type` can name. One file each."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from pydantic import Field

from modelopt_cli.core.strategy import Named, Strategy
from modelopt_cli.core.types import Items
from modelopt_cli.data.augmentations import Augmentation
from modelopt_cli.data.raw import Task
from modelopt_cli.data.splits import Splits

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["DataSource"]


class DataSource(Strategy):
    """Base of all data sources: the options that every `data:` section has."""

    family: ClassVar[str] = "data"
    changes_inputs: ClassVar[frozenset[str]] = frozenset({"standardize", "augment"})
    """Options that change what a model is given and nothing else: these a search may try."""
    decides_samples: ClassVar[frozenset[str]] = frozenset({"splits", "positive"})
    """Options that decide which samples there are, where they come from, or what their targets and weights are.

    Results under different values of these are measured on different things, so no search may try them. Every option
    of every source is in one of the two (the tests hold it).
    """
    only_task: ClassVar[Task | None] = None
    """The task, of data that have one whatever the options; `only_classes` likewise."""
    only_classes: ClassVar[int | None] = None
    brings_test: ClassVar[bool] = True
    """Whether the data may come with test samples of their own."""

    splits: Splits | None = Field(
        None, description="What is set aside. Absent: validation 0.2 and test 0.2, or the data's own test samples."
    )
    standardize: bool | None = Field(
        None,
        description="Scale numbers (images: channels) by the train split's mean and deviation. "
        "null: for torch models yes, for scikit-learn estimators no.",
    )
    augment: Items[Annotated[Augmentation, Named("augmentations")]] = Field(
        (), description="Changes to training images, applied in this order."
    )

    positive: bool | str | int | float | None = Field(
        None,
        description="The positive class, of two: what precision_binary, recall_binary and f1_binary are about. "
        "null: the second one, of texts in the alphabet's order.",
    )

    def tasks(self) -> tuple[Task, ...]:
        """The tasks that the data may turn out to ask for, as far as that is known without reading them."""
        if self.only_task is not None:
            return (self.only_task,)
        asked: Literal["auto"] | Task = getattr(self, "task", "auto")
        if asked == "auto":
            return get_args(Task)
        return ("classification", "multilabel") if asked == "classification" else (asked,)

    def read(self, seed: int) -> RawData:
        """What `load` gives, with the positive class as the second one. Raises InputError where there is no such."""
        from modelopt_cli.data.positive import with_positive

        return with_positive(self.load(seed), self.positive)

    @abstractmethod
    def load(self, seed: int) -> RawData:
        """Read the data. Raises InputError with the remedy.

        `seed` is for sources that sample or generate: one for the whole search (`splits.seed`, else the experiment's),
        so every trial has the same samples.
        """
