"""The options that all tables share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from modelopt_cli.core.types import Items
from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

ColumnNames = Annotated[str | Items[str], Field(min_length=1)]
Policy = Literal["impute", "drop", "refuse"]


def listed(columns: str | tuple[str, ...]) -> tuple[str, ...]:
    """One column, or several, as `ColumnNames` takes them: their names."""
    return (columns,) if isinstance(columns, str) else columns


class TableSource(DataSource):
    """Base of sources with named columns."""

    # `missing: drop` decides samples too: preflight compares them, for what is missing is in the data.
    changes_inputs: ClassVar[frozenset[str]] = DataSource.changes_inputs | {
        *("categories", "drop", "missing", "aside", "keep"),
    }
    decides_samples: ClassVar[frozenset[str]] = DataSource.decides_samples | {
        *("task", "target", "weights", "missing_values", "thousands", "max_categories", "time"),
    }
    brings_test: ClassVar[bool] = False

    task: Literal["auto", "classification", "regression"] = Field(
        "auto",
        description="auto: text, true/false and whole numbers with at most 20 different values are classes; "
        "several 0/1 columns are labels (multi-label); all else is regression.",
    )
    categories: Items[str] = Field((), description="Number columns to treat as categories; text columns always are.")
    drop: Items[str] = Field((), description="Columns to leave out.")
    weights: str | None = Field(None, description="Column of sample weights, 0 or more.")
    missing: Policy | dict[str, Policy] = Field(
        "impute",
        description="impute: the train split's median for numbers, no category for text. drop: the row. refuse: fail. "
        "By column: {price: drop}, '*' for all others (else impute; a target or weight: refuse).",
    )
    missing_values: Items[str | int | float] | None = Field(
        None,
        description="Cells that mean a missing value, beside empty ones. null: for csv the usual ones, such as NA, "
        "None and nan (listed below); elsewhere none.",
    )
    thousands: str | None = Field(
        None, min_length=1, max_length=1, description="Mark between groups of three digits, ',' in 1,234.5."
    )
    time: str | None = Field(
        None,
        description="Column that tells when a sample was taken (numbers, or dates such as 2024-12-31), for "
        "order: time; no input of the model. null: samples stand in order of time.",
    )
    aside: Items[str] = Field(
        (), description="Columns that are no inputs. Those that splits and folds go by (groups, time) are so anyway."
    )
    keep: Items[str] = Field((), description="Columns set aside that are inputs all the same.")
    max_categories: int = Field(1000, ge=1, description="More different texts in one column than this are an error.")

    @field_validator("thousands")
    @classmethod
    def _is_mark(cls, mark: str | None) -> str | None:
        if mark is not None and (mark.isalnum() or mark in "+-"):
            raise ValueError(f"thousands is '{mark}', which stands in numbers themselves; write a mark such as ','")
        return mark

    def tasks(self) -> tuple[Task, ...]:
        """See the base class. One column never holds labels that exclude nothing."""
        target = getattr(self, "target", None)
        several = target is None or not isinstance(target, str)
        return tuple(task for task in super().tasks() if several or task != "multilabel")

    def columns_aside(self) -> tuple[str, ...]:
        """Names of the columns that splits and folds may go by."""
        groups = None if self.splits is None else self.splits.groups
        return tuple(dict.fromkeys(name for name in (*self.aside, groups, self.time) if name is not None))

    @property
    def marks(self) -> tuple[str, ...] | None:
        """`missing_values` as texts: -999.0 as the cell -999."""
        from modelopt_cli.data.columns import label_text

        return None if self.missing_values is None else tuple(label_text(mark) for mark in self.missing_values)

    def reading(self) -> dict[str, Any]:
        """How new data are to be read, as plain values."""
        given = {"thousands": self.thousands, "missing_values": None if self.marks is None else list(self.marks)}
        return {name: value for name, value in given.items() if value is not None}
