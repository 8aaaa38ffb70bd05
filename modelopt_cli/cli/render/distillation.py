"""A distillation: teacher, student alone and student side by side, what they cost, how much of the gap was closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import gates, number, positive, size
from modelopt_cli.cli.render.pruning import records
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION

_SHOWN = ("accuracy", "rmse", "loss", "r2")
_FILES = ("tables", "report", "model", "directory")
_LABELS = {"model": "student", "directory": "run"}


def render_distilling(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out the epochs that are not kept, and the costs."""
    rows = records(report, "learners")
    _learners(console, report, [row for row in rows if row["kept"] or not quiet])
    if not quiet:
        _costs(console, report)
    for split in ("validation", "test"):
        gap = report.metrics.get(f"{split}.gap_closed")
        if gap is not None:
            text = f"{gap:.0%} of the gap between student alone and teacher on the {split} split"
            console.print(Text.assemble(("closed ", "dim"), text), soft_wrap=True)
    positive(console, report)
    gates(console, report.gates)
    for warning in report.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)
    teachers = [key for key in report.artefacts if key.startswith("teacher")]
    for key in (*_FILES[:2], *teachers, *_FILES[2:]):
        if key in report.artefacts:
            label = _LABELS.get(key, key)
            console.print(Text.assemble((f"{label:<13}", "dim"), report.artefacts[key]), soft_wrap=True)


def _learners(console: Console, report: Report, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row for each model; below it, what it was at the epoch that is not kept."""
    seeds = len(report.details.get("seeds", ()))
    over = f" (mean ± deviation of {seeds} seeds)" if seeds else ""
    table = Table(
        title=f"{report.name}: the models{over}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    known = [name for name in _SHOWN if any(row.get(f"validation.{name}", row.get(f"test.{name}")) for row in rows)]
    metrics = [f"{split}.{name}" for name in known[: 1 if seeds else 2] for split in ("validation", "test")]
    metrics = [name for name in metrics if any(row.get(name) is not None for row in rows)]
    table.add_column("model", no_wrap=True)
    for name in ("epoch", *metrics):
        table.add_column(name.replace(".", "\n"), justify="right", no_wrap=True)
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


def _deviation(row: Mapping[str, Any], name: str) -> Any:
    """Over seeds; reports of earlier versions call it otherwise."""
    return row.get(name + DEVIATION, row.get(f"{name} ±"))


def _costs(console: Console, report: Report) -> None:
    rows = records(report, "costs")
    if not rows:
        return
    table = Table(title="costs", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [name for name in rows[0] if name != "what" and not name.endswith(("±", DEVIATION))]
    table.add_column("of the model")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        show = size if row["what"].startswith("bytes") else _plain
        table.add_row(row["what"], *(_cost(row[name], show, name) for name in columns))
    console.print(table)


def _cost(value: float | None, show: Any, column: str) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if column == "times less" else str(show(value))


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else number(float(value))
