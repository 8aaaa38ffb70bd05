"""The trials of a search as the data set `trials`, with plain column names, and what these stand for.

Columns: trial, state, origin, seconds, steps, reason; `m0`, `m1`, ... the metrics; `p0`, `p1`, ... the settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import cell, short
from modelopt_cli.results.charts.chart import columns_of
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import METRIC, column_of

_OWN = ("trial", "state", "origin", "seed", "seconds", "steps", "parent", "born", "failure", "feasible", "reason")
_MEASURED = ("validation.", "train.", "model.", "test.", METRIC)


@dataclass(frozen=True)
class Setting:
    """A searched parameter: its column, its path, its short name, and how its values lie."""

    column: str
    path: str
    name: str
    numeric: bool
    log: bool
    values: tuple[Any, ...] = field(default=(), repr=False)  # of a categorical one, in order of appearance


@dataclass(frozen=True)
class Trials:
    """`rows`: a mapping a trial, by column; `goals` with the column of each."""

    rows: Sequence[Mapping[str, Any]]
    goals: tuple[tuple[Goal, str], ...]
    settings: tuple[Setting, ...]
    metrics: Mapping[str, str]  # column -> metric

    def data(self) -> dict[str, list[Any]]:
        """The data set."""
        return columns_of(self.rows)

    def finished(self) -> list[Mapping[str, Any]]:
        """Those that ended with a value of the first objective (or were stopped with one)."""
        column = self.goals[0][1]
        return [row for row in self.rows if row["state"] in ("completed", "stopped") and row.get(column) is not None]

    def best(self) -> Mapping[str, Any] | None:
        """The complete trial with the best value of the first objective."""
        goal, column = self.goals[0]
        complete = [row for row in self.finished() if row["state"] == "completed" and row.get("feasible") is not False]
        rank = max if goal.maximize else min
        return rank(complete, key=lambda row: row[column], default=None)


def trials_of(report: Report) -> Trials | None:
    """The trials of a search's report; None where it has none."""
    table = report.records("trials")
    goals = [Goal.parse(text) for text in report.details.get("objective", [])]
    if not table or not goals:
        return None
    columns = list(table[0])
    searched = {entry["path"]: entry for entry in report.details.get("space", [])}
    wanted = {column_of(goal.metric, columns): goal.metric for goal in goals}
    chosen = set((report.best or {}).get("params", {})) | set(searched)
    paths = [
        name
        for name in columns
        if name in chosen or not (chosen or name in _OWN or name in wanted or name.startswith(_MEASURED))
    ]
    metrics = [name for name in columns if name not in _OWN and name not in paths]
    metric_key = {name: f"m{i}" for i, name in enumerate(metrics)}
    setting_key = {path: f"p{i}" for i, path in enumerate(paths)}
    rows = [
        {
            **{name: row[name] for name in _OWN if name in row},
            **{metric_key[name]: row[name] for name in metrics},
            **{setting_key[path]: _value(row[path]) for path in paths},
        }
        for row in table
    ]
    settings = tuple(_setting(path, setting_key[path], paths, rows, searched.get(path)) for path in paths)
    return (
        Trials(
            rows=rows,
            goals=tuple(
                (goal, metric_key[name]) for goal, name in zip(goals, wanted, strict=False) if name in metric_key
            ),
            settings=settings,
            metrics={metric_key[name]: wanted.get(name, name) for name in metrics},
        )
        if all(name in metric_key for name in wanted)
        else None
    )


def _value(value: Any) -> Any:
    """A setting as it is drawn: numbers as they are, everything else as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return cell(value) if isinstance(value, str) else value


def _setting(
    path: str, column: str, paths: Sequence[str], rows: Sequence[Mapping[str, Any]], entry: Mapping[str, str] | None
) -> Setting:
    values = [row[column] for row in rows if row[column] is not None]
    numeric = bool(values) and all(isinstance(value, int | float) for value in values)
    if entry is not None:
        log = "log" in entry["range"]
    else:
        log = numeric and min(values) > 0 and max(values) / min(values) >= 100
    order = () if numeric else tuple(dict.fromkeys(map(str, values)))
    return Setting(column, path, short(path, paths), numeric, numeric and log and min(values) > 0, order)


def text_of(settings: Mapping[str, Any]) -> str:
    """Settings in one line, by their short names."""
    return ", ".join(f"{short(path, settings)} {_short(value)}" for path, value in settings.items())


def _short(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float)
        else str(value if not isinstance(value, Mapping) else json.dumps(value))
    )
