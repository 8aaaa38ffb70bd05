"""A distillation: teacher, student alone and student side by side, what they cost, how much of the gap was closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from modelopt_cli.cli.render import metrics, parts, plan
from modelopt_cli.cli.render.pruning import signed
from modelopt_cli.core.readable import figure, number
from modelopt_cli.results.details import DistillationDetails
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out the epochs that are not kept, and the costs."""
    details = cast(DistillationDetails, report.details)
    rows = [row for row in report.records("learners") if row["kept"] or not quiet]
    _learners(console, report, rows, seeds=len(details.get("seeds", ())))
    costs = report.records("costs")
    if costs and not quiet:
        parts.costs(console, costs)
        parts.latency(console, report)
    if report.seconds:
        plan.times(console, report)
    parts.positive(console, details.get("positive_class"))
    parts.warnings(console, report)
    parts.result(console, *_results(report))
    parts.gates(console, report.gates)
    parts.files(console, report, {"model": "student", **{key: key for key in report.artefacts if _is_teacher(key)}})


def _is_teacher(key: str) -> bool:
    return key.startswith("teacher")


def _results(report: Report) -> list[str]:
    """The student beside itself alone and beside its teacher, on test first; how much of the way it went."""
    kept = {str(row["learner"]): row for row in report.records("learners") if row["kept"]}
    student, alone = kept.get("student", {}), kept.get("student alone", {})
    name = metrics.main_metric(report, [name for name, value in student.items() if value is not None])
    sentences = []
    for split in ("test", "validation"):
        full = f"{split}.{name}"
        value, without = student.get(full), alone.get(full)
        if value is None:
            continue
        beside = [] if without is None else [f"alone {figure(without)} ({signed(value - without)})"]
        teachers = [row for learner, row in kept.items() if _is_teacher(learner) and row.get(full) is not None]
        beside += [f"{row['learner']} {figure(row[full])}" for row in teachers[:2]]
        gap = report.metrics.get(f"{split}.gap_closed")
        closed = (
            ""
            if gap is None
            else f"; {gap:.0%} of the gap closed"
            if gap >= 0
            else "; further from the teacher than alone"
        )
        sentences.append(f"{full} student {figure(value)}{''.join(f', {text}' for text in beside)}{closed}")
    return sentences


def _learners(console: Console, report: Report, rows: Sequence[Mapping[str, Any]], *, seeds: int) -> None:
    """A row for each model; below it, what it was at the epoch that is not kept. `seeds`: 0 where there is one."""
    over = f" (mean ± deviation of {seeds} seeds)" if seeds else ""
    known = {metrics.split_of(name)[1] for row in rows for name, value in row.items() if value is not None}
    first = [name for name in metrics.leading(report) if name in known][: 1 if seeds else 2]
    names = [f"{split}.{name}" for name in first for split in ("test", "validation")]
    names = [name for name in names if any(row.get(name) is not None for row in rows)]

    def table(columns: Sequence[str]) -> Table:
        made = parts.titled(f"{report.name}: the models{over}")
        made.add_column("model", no_wrap=True)
        made.add_column("epoch", justify="right", no_wrap=True)
        texts = [parts.figures(made, name.replace(".", ".\n"), [_value(row, name) for row in rows]) for name in columns]
        for row, *cells in zip(rows, *texts, strict=True):
            epoch = number(row.get("epoch")) if _deviation(row, "epoch") is None else f"{row['epoch']:.0f}"
            made.add_row(_name(row), epoch, *cells, style="" if row["kept"] else "dim")
        return made

    console.print(parts.fitting(console, names, table))


def _name(row: Mapping[str, Any]) -> str:
    if row["turn"] == "not trained":
        return f"{row['learner']}: not run"
    return str(row["learner"]) if row["kept"] else f"  {row['turn']} epoch"


def _value(row: Mapping[str, Any], name: str) -> str:
    """With its deviation over the seeds, where there are several."""
    value, deviation = row.get(name), _deviation(row, name)
    return "–" if value is None else parts.shares(value, deviation)


def _deviation(row: Mapping[str, Any], name: str) -> float | None:
    """Over seeds; reports of earlier versions call it otherwise."""
    deviation: float | None = row.get(name + DEVIATION, row.get(f"{name} ±"))
    return deviation
