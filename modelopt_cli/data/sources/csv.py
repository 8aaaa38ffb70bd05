"""A text table: CSV or TSV with a header line, or JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self, final

from pydantic import Field, model_validator

from modelopt_cli.data.sources._table import ColumnNames, TableSource, listed

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Csv"]


@final
class Csv(TableSource):
    """A CSV, .tsv or .jsonl file, also packed (.gz, .zip, .zst, .bz2, .xz): text columns become categories."""

    path_fields: ClassVar[tuple[str, ...]] = ("path",)
    decides_samples: ClassVar[frozenset[str]] = TableSource.decides_samples | {
        *("path", "separator", "decimal", "encoding"),
    }

    path: str = Field(description="The file, relative to the experiment file's folder.")
    target: ColumnNames = Field(description="Column to predict; a list: several labels or outputs.")
    separator: str | None = Field(
        None, min_length=1, max_length=1, description="Between fields; null: ',', and a tab in a .tsv file."
    )
    decimal: str = Field(".", min_length=1, max_length=1, description="Decimal mark, ',' in many European files.")
    encoding: str = Field("utf-8", description="Text encoding, e.g. latin-1.")

    @model_validator(mode="after")
    def _two_marks(self) -> Self:
        if self.thousands == self.decimal:
            raise ValueError(f"'thousands' and 'decimal' are both '{self.decimal}'; a number needs two different marks")
        return self

    def load(self, seed: int) -> RawData:
        """One sample a row, in the file's order."""
        from dataclasses import replace

        from modelopt_cli.data.columns import Notation
        from modelopt_cli.data.csv_files import CsvForm
        from modelopt_cli.data.files import existing, hash_file
        from modelopt_cli.data.opening import table_suffix
        from modelopt_cli.data.tables import read_text_table, table_to_raw

        path = existing(self.path)
        separator = self.separator or ("\t" if table_suffix(path) == ".tsv" else ",")
        form = CsvForm(separator, self.encoding, Notation(self.decimal, self.thousands), self.marks)
        targets = listed(self.target)
        raw = table_to_raw(read_text_table(path, form, self.categories), self, targets)
        reading = {"separator": separator, "decimal": self.decimal, "encoding": self.encoding, **self.reading()}
        return replace(raw, fingerprint=hash_file(path), reading=reading)
