"""A CSV file with a header line."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import Field

from modelopt_cli.data.sources._table import ColumnNames, TableSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Csv"]


@final
class Csv(TableSource):
    """A CSV file: types inferred, text columns become categories, missing values imputed, dropped or refused."""

    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    decides_samples: ClassVar[frozenset[str]] = TableSource.decides_samples | {
        *("path", "separator", "decimal", "encoding"),
    }

    path: str = Field(description="The file, relative to the experiment file's folder.")
    target: ColumnNames = Field(description="Column to predict; a list: several labels or outputs.")
    separator: str = Field(",", min_length=1, max_length=1, description="Between fields; '\\t' for a tab.")
    decimal: str = Field(".", min_length=1, max_length=1, description="Decimal mark, ',' in many European files.")
    encoding: str = Field("utf-8", description="Text encoding, e.g. latin-1.")

    def load(self, seed: int) -> RawData:
        """One sample a row, in the file's order."""
        from dataclasses import replace

        from modelopt_cli.data.files import existing, hash_file
        from modelopt_cli.data.tables import read_csv, table_to_raw

        path = existing(self.path)
        frame = read_csv(path, self.separator, self.decimal, self.encoding)
        targets = (self.target,) if isinstance(self.target, str) else self.target
        raw = table_to_raw(frame, self, targets, f"'{path}'")
        reading = {"separator": self.separator, "decimal": self.decimal, "encoding": self.encoding}
        return replace(raw, fingerprint=hash_file(path), reading=reading)
