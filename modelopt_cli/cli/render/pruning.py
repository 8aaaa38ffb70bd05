"""A pruning by an experiment file: its tensors, the model before, after and recovered side by side, gates, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import gates, number, positive, size
from modelopt_cli.cli.render.weights_file import layers, spared
from modelopt_cli.results.report import Report

_STAGES = {"before": "before", "pruned": "pruned", "final": "recovered"}
_FILES = {
    "tables": "tables",
    "report": "report",
    "dense": "dense model",
    "model": "pruned model",
    "program": "without code",
    "directory": "run",
}
_SPLITS = ("validation", "test")
_SHOWN = ("loss", "accuracy", "f1", "precision", "recall", "r2", "rmse", "mae")


def render_pruning(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the metrics, the sizes, the gates and the files."""
    if not quiet:
        layers(console, report)
        spared(console, report.details.get("spared", {}))
        if "rounds" in report.tables and len(report.tables["rounds"].rows) > 1:
            rounds(console, report)
    shown = [("model.nonzero", "{:,.0f}".format), ("model.sparsity", "{:.2%}".format)]
    stages(console, report, shown)
    _amounts(console, report)
    positive(console, report)
    gates(console, report.gates)
    files(console, report)


def files(console: Console, report: Report) -> None:
    """Warnings, and what was written."""
    for warning in report.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)
    if report.details.get("dry_run"):
        console.print("dry run: nothing was written")
    for key, label in _FILES.items():
        if key in report.artefacts:
            console.print(Text.assemble((f"{label:<13}", "dim"), report.artefacts[key]), soft_wrap=True)


def stages(console: Console, report: Report, extra: Sequence[tuple[str, Callable[[Any], str]]]) -> None:
    """The metrics at each turn, and below them what `extra` names, with how to show it."""
    rows = records(report, "stages")
    by_stage = {row["stage"]: row for row in rows}
    recovers = any(row.get("recovered") for row in records(report, "rounds"))
    shown = [name for name in _STAGES if name in by_stage and (recovers or name != "pruned")]
    table = Table(title="metrics", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric")
    for name in shown:
        table.add_column("pruned" if name == "final" and not recovers else _STAGES[name], justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    for split in _SPLITS:
        for metric in _SHOWN:
            name = f"{split}.{metric}"
            values = [by_stage[stage].get(name) for stage in shown]
            if values[-1] is not None:
                change = values[-1] - values[0] if values[0] is not None else None
                table.add_row(name, *map(number, values), "–" if change is None else f"{change:+.4f}")
    for name, show in extra:
        table.add_row(name, *(show(by_stage[stage][name]) for stage in shown), "")
    console.print(table)


def rounds(console: Console, report: Report) -> None:
    """A row a round."""
    found = report.tables["rounds"]
    table = Table(title="rounds", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [name for name in found.columns if name not in ("weights gone", "units gone", "recovered")]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in records(report, "rounds"):
        table.add_row(
            *(f"{row[name]:.2%}" if name in ("sparsity", "share") else number(row.get(name)) for name in columns)
        )
    console.print(table)


def _amounts(console: Console, report: Report) -> None:
    """What was asked and what was reached stand side by side."""
    asked, reached = report.details.get("asked"), report.details.get("reached", {})
    if asked is not None and reached:
        share = reached.get("pruning.sparsity", 0.0)
        console.print(Text.assemble(("asked    ", "dim"), _asked(asked)), soft_wrap=True)
        text = f"{share:.2%} of what may go is gone; {reached['model.nonzero']:,.0f} parameters are not 0"
        console.print(Text.assemble(("reached  ", "dim"), text), soft_wrap=True)
    metrics = report.metrics
    if "model.compressed_bytes" in metrics:
        text = f"{size(metrics['model.size_bytes'])}, compressed {size(metrics['model.compressed_bytes'])}; "
        text += "dense kernels do not run zeros faster"
        console.print(Text.assemble(("size     ", "dim"), text), soft_wrap=True)


def _asked(asked: Mapping[str, Any]) -> str:
    if "budget" in asked:
        name, value = next(iter(asked["budget"].items()))
        left = value if isinstance(value, str) else f"{value:,}"
        return f"at most {left} {name} (so {asked['amount']:.2%} goes)"
    if "threshold" in asked:
        return f"what scores below {asked['threshold']:g}"
    if "type" in asked:
        return f"{asked.get('n')} of every {asked.get('m')} stay" if asked["type"] == "nm" else str(asked["type"])
    return f"{asked['amount']:.2%}"


def records(report: Report, table: str) -> Sequence[dict[str, Any]]:
    """The rows of a table as records; none where there is no such table."""
    found = report.tables.get(table)
    return [] if found is None else found.records()
