"""Data from the user's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.core.consent import Code
from modelopt_cli.core.imports import Target
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Python"]


@final
class Python(DataSource):
    """Your own code: `target: module:function` is called and returns (inputs, targets) or RawData."""

    path_fields: ClassVar[tuple[str, ...]] = ("folder",)
    # What the arguments change is known to the function alone: preflight and each trial compare samples and targets.
    changes_inputs: ClassVar[frozenset[str]] = DataSource.changes_inputs | {"arguments", "tokens", "layout"}
    decides_samples: ClassVar[frozenset[str]] = DataSource.decides_samples | {"target", "folder", "task"}

    target: Target = Field(description="module:function; given `seed` if it takes an argument of that name.")
    arguments: dict[str, Any] = Field({}, description="Keyword arguments of the function.")
    folder: str = Field(".", description="Folder to import from; by default that of the experiment file.")
    task: Literal["auto", "classification", "multilabel", "regression"] = Field(
        "auto", description="auto: as csv infers it; two-dimensional targets of 0 and 1 are labels."
    )
    tokens: bool = Field(False, description="Whole numbers (N, length) are tokens of a vocabulary, not quantities.")
    layout: Literal["auto", "channels_first", "channels_last"] = Field(
        "auto", description="Of images; auto: the axis with 1 or 3 entries holds the channels."
    )

    def code(self) -> Code:
        """The target."""
        return Code(self.target, self.arguments, self.folder)

    def load(self, seed: int) -> RawData:
        """What the function returns. Raises InputError, naming the line in its file, where it fails."""
        from modelopt_cli.data.python_reading import load

        return load(
            self.target, self.folder, self.arguments, seed, task=self.task, tokens=self.tokens, layout=self.layout
        )
