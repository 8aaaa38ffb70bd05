"""Reading a run that is over: its report.json, and the tables that lie beside it as files of their own.

Tables that would make report.json large (a point of a curve a row) are read when somebody asks for them, not before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.report import Report, Table

REPORT = "report.json"


def has_report(path: Path) -> bool:
    """Whether the run in `path` has a report; one that goes on for the first time, or was killed, has none."""
    return (path / REPORT).exists()


def read_run(path: Path) -> Report:
    """The report of the run in the folder `path`, with the tables beside it.

    Raises InputError where there is no report, or none that can be read; for a table that cannot be read, when it is
    asked for.
    """
    file = path / REPORT
    try:
        report = Report.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path} has no {REPORT}; wait for the run to end, or start it again") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a report ({str(error).splitlines()[0]})") from None
    return report.with_beside(TablesBeside(path, but=report.tables))


class TablesBeside(Mapping[str, Table]):
    """The tables of a run's folder: name -> what NAME.json holds. Each is read once, when it is asked for.

    `but`: names of those that the report holds itself.
    """

    def __init__(self, folder: Path, but: Mapping[str, Table]) -> None:
        self._folder, self._but = folder.absolute(), frozenset(but)
        self._tables: dict[str, Table] = {}

    def __getitem__(self, name: str) -> Table:
        if name not in self:
            raise KeyError(name)
        if name not in self._tables:
            self._tables[name] = read_table(self._folder / f"{name}.json")
        return self._tables[name]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or name in self._but or Path(f"{name}.json").name != f"{name}.json":
            return False
        return all((self._folder / f"{name}.{ending}").is_file() for ending in ("csv", "json"))

    def __iter__(self) -> Iterator[str]:
        names = sorted(file.stem for file in self._folder.glob("*.json")) if self._folder.is_dir() else []
        return (name for name in names if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def read_table(file: Path) -> Table:
    """The table that RunDirectory.write_table wrote to NAME.json. Raises InputError for another content."""
    try:
        records = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as a table ({str(error).splitlines()[0]})") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"{file} cannot be read as a table (it is no list of rows)")
    columns = list(records[0]) if records else []
    rows = [list(record.values()) for record in records]
    if not all(list(record) == columns for record in records):
        raise InputError(f"{file} cannot be read as a table (its rows have different columns)")
    if not all(_is_cell(value) for row in rows for value in row):
        raise InputError(f"{file} cannot be read as a table (a cell is no plain value)")
    return Table.model_construct(columns=columns, rows=rows)  # a curve a trial may be a million cells: checked above


def _is_cell(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int | bool)
