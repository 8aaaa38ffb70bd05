"""A distillation: teacher, student alone and student side by side, what they cost, how much of the gap was closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import number
from modelopt_cli.results.details import DistillationDetails
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION

_SHOWN = ("accuracy", "rmse", "loss", "r2")


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out the epochs that are not kept, and the costs."""
    details = cast(DistillationDetails, report.details)
    rows = [row for row in report.records("learners") if row["kept"] or not quiet]
    _learners(console, report.name, rows, seeds=len(details.get("seeds", ())))
    costs = report.records("costs")
    if costs and not quiet:
        parts.costs(console, costs)
    for split in ("validation", "test"):
        gap = report.metrics.get(f"{split}.gap_closed")
        if gap is not None:
            text = f"{gap:.0%} of the gap between student alone and teacher on the {split} split"
            parts.line(console, "closed ", text)
    parts.positive(console, details.get("positive_class"))
    parts.gates(console, report.gates)
    parts.warnings(console, report)
    teachers = {key: key for key in report.artefacts if key.startswith("teacher")}
    files = {"tables": "tables", "report": "report", **teachers, "model": "student", "directory": "run"}
    parts.files(console, report, files)


def _learners(console: Console, name: str, rows: Sequence[Mapping[str, Any]], *, seeds: int) -> None:
    """A row for each model; below it, what it was at the epoch that is not kept. `seeds`: 0 where there is one."""
    over = f" (mean ± deviation of {seeds} seeds)" if seeds else ""
    table = parts.titled(f"{name}: the models{over}")
    known = [name for name in _SHOWN if any(row.get(f"validation.{name}", row.get(f"test.{name}")) for row in rows)]
    metrics = [f"{split}.{name}" for name in known[: 1 if seeds else 2] for split in ("validation", "test")]
    metrics = [name for name in metrics if any(row.get(name) is not None for row in rows)]
    table.add_column("model", no_wrap=True)
    for column in ("epoch", *metrics):
        table.add_column(column.replace(".", "\n"), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            _name(row),
            number(row.get("epoch")) if _deviation(row, "epoch") is None else f"{row['epoch']:.0f}",
            *(_value(row, name) for name in metrics),
            style="" if row["kept"] else "dim",
        )
    console.print(table)


def _name(row: Mapping[str, Any]) -> str:
    if row["turn"] == "not trained":
        return f"{row['learner']}: not run"
    return str(row["learner"]) if row["kept"] else f"  {row['turn']} epoch"


def _value(row: Mapping[str, Any], name: str) -> str:
    """With its deviation over the seeds, where there are several."""
    value, deviation = row.get(name), _deviation(row, name)
    return number(value) if deviation is None else f"{number(value)} ± {deviation:.2g}"


def _deviation(row: Mapping[str, Any], name: str) -> float | None:
    """Over seeds; reports of earlier versions call it otherwise."""
    deviation: float | None = row.get(name + DEVIATION, row.get(f"{name} ±"))
    return deviation
