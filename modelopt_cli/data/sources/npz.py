"""Arrays in numpy's .npz file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Npz"]


@final
class Npz(DataSource):
    """Arrays in a .npz file: numbers, images (uint8), sequences or tokens; pickled ones are refused."""

    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    changes_inputs: ClassVar[frozenset[str]] = DataSource.changes_inputs | {"inputs", "tokens", "layout"}
    decides_samples: ClassVar[frozenset[str]] = DataSource.decides_samples | {
        *("path", "targets", "weights", "test_inputs", "test_targets", "task"),
    }

    path: str = Field(description="The file, relative to the experiment file's folder.")
    inputs: str | None = Field(None, description="Array of inputs; null: inputs, X, x, x_train, data or images.")
    targets: str | None = Field(None, description="Array of targets; null: targets, y, y_train, target or labels.")
    weights: str | None = Field(None, description="Array of sample weights, 0 or more.")
    test_inputs: str | None = Field(
        "auto",
        description="Array of test inputs; they become the test split. auto: x_test or the like, where inputs and "
        "targets are not named and the file has it; null: none.",
    )
    test_targets: str | None = Field("auto", description="Array of test targets; auto: y_test or the like.")
    task: Literal["auto", "classification", "multilabel", "regression"] = Field(
        "auto", description="auto: as csv infers it; two-dimensional targets of 0 and 1 are labels."
    )
    tokens: bool = Field(False, description="Whole numbers (N, length) are tokens of a vocabulary, not quantities.")
    layout: Literal["auto", "channels_first", "channels_last"] = Field(
        "auto", description="Of images; auto: the axis with 1 or 3 entries holds the channels."
    )

    def load(self, seed: int) -> RawData:
        """One sample a row of the arrays; the test arrays follow the others."""
        from modelopt_cli.data.npz_reading import load

        return load(
            self.path,
            inputs=self.inputs,
            targets=self.targets,
            weights=self.weights,
            test_inputs=self.test_inputs,
            test_targets=self.test_targets,
            task=self.task,
            tokens=self.tokens,
            layout=self.layout,
        )
