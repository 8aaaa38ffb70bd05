"""Data sets of OpenML."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from modelopt_cli.data.sources._table import ColumnNames, TableSource, listed

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["OpenML"]


@final
class OpenML(TableSource):
    """A data set of OpenML by name or id, downloaded once (through scikit-learn, into its cache)."""

    path_fields: ClassVar[tuple[str, ...]] = ("cache",)
    decides_samples: ClassVar[frozenset[str]] = TableSource.decides_samples | {
        *("dataset", "version", "data_id", "cache"),
    }

    dataset: str | None = Field(None, min_length=1, description="Name on OpenML, e.g. adult.")
    version: int | Literal["active"] = Field("active", description="A number is reproducible; active: the oldest one.")
    data_id: int | None = Field(None, ge=1, description="Number on OpenML, instead of dataset and version.")
    target: ColumnNames | None = Field(None, description="Column(s) to predict; null: the data set's own target.")
    cache: str | None = Field(None, description="Folder for downloads; null: ~/scikit_learn_data.")

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if (self.dataset is None) == (self.data_id is None):
            raise ValueError("openml needs exactly one of 'dataset' (e.g. adult) and 'data_id' (e.g. 1590)")
        if self.data_id is not None and self.version != "active":
            raise ValueError("'version' belongs to 'dataset'; a data_id names one version already")
        return self

    def load(self, seed: int) -> RawData:
        """One sample a row, in OpenML's order. Raises InputError when it is neither cached nor to be had."""
        import hashlib
        from dataclasses import replace

        import pandas as pd

        from modelopt_cli.core.errors import InputError
        from modelopt_cli.data.columns import Notation
        from modelopt_cli.data.openml_reading import fetch
        from modelopt_cli.data.tables import Table, mark_missing, table_to_raw

        name: dict[str, str | int | None]
        if self.dataset is None:
            what, name = f"OpenML data set {self.data_id}", {"data_id": self.data_id}
        else:
            what, name = f"OpenML data set '{self.dataset}'", {"name": self.dataset, "version": self.version}
        frame, targets = fetch(what, self.cache, **name)
        if self.target is not None:
            targets = listed(self.target)
        if not targets:
            raise InputError(f"{what} names no target; set 'target' to one of: {', '.join(frame.columns[:20])}")
        digest = hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()).hexdigest()
        table = Table(mark_missing(frame, self.marks or ()), what, Notation(".", self.thousands))
        return replace(table_to_raw(table, self, targets), fingerprint=digest, reading=self.reading())
