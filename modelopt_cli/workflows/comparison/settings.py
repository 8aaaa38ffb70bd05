"""Which settings runs differ in. What all have alike says nothing about why one is better."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Cell, Table
from modelopt_cli.results.tables import cell
from modelopt_cli.workflows.shared.run_files import flatten

if TYPE_CHECKING:
    from modelopt_cli.workflows.comparison.runs import ComparedRun

_NOT_COMPARED = ("version", "name", "seed", "seeds", "evaluation.folder")  # the table of runs has the seeds
GIVEN = "given"
"""The cell of a whole section that one run has and another lacks."""


def differing_settings(runs: Sequence[ComparedRun]) -> Table:
    """A row a setting, by its path in the experiment file: column `setting`, then a letter a run; None: it has none.

    Runs whose settings are not known have empty cells. A section that only some have is one row.
    """
    known = [run for run in runs if run.settings is not None]
    columns = ["setting", *(run.letter for run in runs)]
    if len(known) < 2:
        return Table(columns=columns, rows=[])
    sections = [run.settings or {} for run in known]
    partly = {name for each in sections for name in each if any(name not in other for other in sections)}
    flat = {run.letter: _flat(run.settings or {}, partly) for run in known}
    paths = sorted({path for values in flat.values() for path in values} - set(_NOT_COMPARED))
    rows: list[list[Cell]] = []
    for path in paths:
        written = {json.dumps(values.get(path), sort_keys=True, default=str) for values in flat.values()}
        if len(written) > 1:
            cells = (flat[run.letter].get(path) if run.letter in flat else None for run in runs)
            rows.append([path, *(cell(_plain(value)) for value in cells)])
    return Table(columns=columns, rows=rows)


def _flat(settings: Mapping[str, Any], partly: set[str]) -> dict[str, Any]:
    whole = {name: value for name, value in settings.items() if name not in partly}
    return {**flatten(whole), **{name: GIVEN for name in partly if name in settings}}


def _plain(value: Any) -> Any:
    """Dates and the like, which YAML makes of texts, as text."""
    return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)
