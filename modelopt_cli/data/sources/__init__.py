"""Data sources: everything a file's `data.type` can name. One file each."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from modelopt_cli.core.strategy import Named, Strategy
from modelopt_cli.core.types import Items
from modelopt_cli.data.augmentations import Augmentation
from modelopt_cli.data.splits import Splits

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["DataSource"]


class DataSource(Strategy):
    """Base of all data sources: the options that every `data:` section has."""

    family: ClassVar[str] = "data"

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

    @abstractmethod
    def load(self, seed: int) -> RawData:
        """Read the data. `seed` is for sources that sample or generate. Raises InputError with the remedy."""
