"""A pruning by an experiment file: its tensors, the model before, after and recovered side by side, gates, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from rich.console import Console

from modelopt_cli.cli.render import parts, weights_file
from modelopt_cli.core.readable import number, size
from modelopt_cli.results.details import PruningDetails
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
_NOT_SHOWN = ("weights gone", "units gone", "recovered")  # of a round


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the metrics, the sizes, the gates and the files."""
    details = cast(PruningDetails, report.details)
    if not quiet:
        weights_file.layers(console, report)
        weights_file.spared(console, details.get("spared", {}))
        rounds(console, report)
    stages(console, report, {"model.nonzero": "{:,.0f}".format, "model.sparsity": "{:.2%}".format})
    _amounts(console, details)
    if "model.compressed_bytes" in report.metrics:
        plain, packed = (size(report.metrics[f"model.{name}_bytes"]) for name in ("size", "compressed"))
        parts.line(console, "size     ", f"{plain}, compressed {packed}; dense kernels do not run zeros faster")
    closing(console, report, details)


def closing(console: Console, report: Report, details: PruningDetails) -> None:
    """Gates, warnings, and what was written."""
    parts.positive(console, details.get("positive_class"))
    parts.gates(console, report.gates)
    parts.warnings(console, report)
    if details.get("dry_run"):
        console.print("dry run: nothing was written")
    parts.files(console, report, _FILES)


def stages(console: Console, report: Report, extra: Mapping[str, Callable[[Any], str]]) -> None:
    """The metrics at each stage, and below them what `extra` names, with how to show it."""
    by_stage = {row["stage"]: row for row in report.records("stages")}
    recovers = any(row.get("recovered") for row in report.records("rounds"))
    shown = [name for name in _STAGES if name in by_stage and (recovers or name != "pruned")]
    table = parts.titled("metrics")
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
    for name, show in extra.items():
        table.add_row(name, *(show(by_stage[stage][name]) for stage in shown), "")
    console.print(table)


def rounds(console: Console, report: Report) -> None:
    """A row a round, where there are several."""
    rows: Sequence[Mapping[str, Any]] = report.records("rounds")
    if len(rows) < 2:
        return
    table = parts.titled("rounds")
    columns = [name for name in rows[0] if name not in _NOT_SHOWN]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{row[name]:.2%}" if name in ("sparsity", "share") else number(row[name]) for name in columns))
    console.print(table)


def _amounts(console: Console, details: PruningDetails) -> None:
    """What was asked and what was reached stand side by side."""
    asked, reached = details.get("asked"), details.get("reached", {})
    if asked is None or not reached:
        return
    share = reached.get("pruning.sparsity", 0.0)
    parts.line(console, "asked    ", _asked(asked))
    left = f"{reached['model.nonzero']:,.0f} parameters are not 0"
    parts.line(console, "reached  ", f"{share:.2%} of what may go is gone; {left}")


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
