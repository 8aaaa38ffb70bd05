"""A parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.data.sources._table import ColumnNames, TableSource, listed

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Parquet"]


@final
class Parquet(TableSource):
    """A parquet file (needs the extra 'parquet'), with the same options as csv."""

    extra: ClassVar[str] = "parquet"
    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    decides_samples: ClassVar[frozenset[str]] = TableSource.decides_samples | {"path"}

    path: str = Field(description="The file, relative to the experiment file's folder.")
    target: ColumnNames = Field(description="Column to predict; a list: several labels or outputs.")

    def load(self, seed: int) -> RawData:
        """One sample a row, in the file's order."""
        from dataclasses import replace

        from modelopt_cli.data.columns import Notation
        from modelopt_cli.data.files import existing, hash_file
        from modelopt_cli.data.tables import Table, mark_missing, read_parquet, table_to_raw

        path = existing(self.path)
        targets = listed(self.target)
        frame = mark_missing(read_parquet(path), self.marks or ())
        raw = table_to_raw(Table(frame, f"'{path}'", Notation(".", self.thousands)), self, targets)
        return replace(raw, fingerprint=hash_file(path), reading=self.reading())
