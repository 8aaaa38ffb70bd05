"""A compression: the model after each stage, how well it does and what it costs; what came of it, gates, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from modelopt_cli.cli.render import metrics, parts, plan
from modelopt_cli.cli.render.pruning import signed
from modelopt_cli.core.readable import count, duration, figure, size
from modelopt_cli.experiment.expected_metrics import RATIO
from modelopt_cli.results.details import CompressionDetails
from modelopt_cli.results.report import Report
from modelopt_cli.results.tables import DEVIATION

_COSTS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "model.parameters": ("parameters", count),
    "model.macs": ("MACs", count),
    "model.file_bytes": ("file", size),
    "model.latency_ms": ("ms, batch 1", lambda value: f"{value:.3g}"),
    "seconds": ("took", duration),
}
"""Columns of the table that hold what a model costs: metric -> (heading, how it is shown)."""
_FILES = {"model": "model", "int8": "int8 file", "onnx": "ONNX", "pt2": "program"}
_UNMADE = "cannot be made"


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out everything but what came of it, the gates and the files."""
    details = cast(CompressionDetails, report.details)
    rows = report.records("stages")
    if rows:
        _stages(console, report, rows)
    if report.records("tries") and not quiet:
        _tries(console, report)
    if details.get("taken") and not quiet:
        parts.line(console, "taken from an earlier run ", ", ".join(details["taken"]))
    if report.seconds and not quiet:
        plan.times(console, report)
    parts.positive(console, details.get("positive_class"))
    parts.warnings(console, report)
    parts.result(console, *_results(report, rows))
    parts.gates(console, report.gates)
    parts.files(console, report, _FILES)


def _stages(console: Console, report: Report, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row a stage."""
    name = metrics.main_metric(report, [name for name, value in rows[-1].items() if value is not None])
    judged = [f"{split}.{name}" for split in ("test", "validation")]
    names = [each for each in (*judged, *_COSTS) if any(row.get(each) is not None for row in rows)]

    def table(columns: Sequence[str]) -> Table:
        made = parts.titled(f"{report.name}: the model after each stage")
        made.add_column("stage", no_wrap=True)
        texts = []
        for each in columns:
            if each in _COSTS:
                heading, show = _COSTS[each]
                made.add_column(heading, justify="right", no_wrap=True)
                texts.append([_shown(row.get(each), show) for row in rows])
            else:
                values = [_judged(row, each) for row in rows]
                texts.append([str(text) for text in parts.figures(made, each.replace(".", ".\n"), values)])
        for row, *cells in zip(rows, *texts, strict=True):
            made.add_row(str(row["stage"]), *cells)
        return made

    console.print(parts.fitting(console, names, table, first=3))


def _shown(value: Any, show: Callable[[Any], str]) -> str:
    return "–" if value is None else show(value)


def _judged(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "–" if value is None else parts.shares(value, row.get(name + DEVIATION))


def _tries(console: Console, report: Report) -> None:
    """What was tried on the way to a target."""
    rows = report.records("tries")
    shares = [name for name in rows[0] if name.endswith(RATIO)]
    texts = [
        [
            row["try"],
            row["what"],
            str(row["budget"]),
            *(_shown(row[name], "{:.1%}".format) for name in shares),
            _shown(row["drop before recovery"], "{:.4f}".format),
            _shown(row["drop"], "{:.4f}".format),
            duration(row["seconds"]),
            _UNMADE if _unmade(row) else row["verdict"],
        ]
        for row in rows
    ]
    left = [name.removesuffix(RATIO) for name in shares]
    parts.cells(console, "tries", ["try", "what", "aim", *left, "drop pruned", "recovered", "took", "verdict"], texts)
    unmade = [row for row in rows if _unmade(row)]
    if unmade:
        numbers = f"{'try' if len(unmade) == 1 else 'tries'} {', '.join(str(row['try']) for row in unmade)}"
        reason = unmade[-1]["verdict"].removeprefix(f"{_UNMADE}: ")
        parts.line(console, f"{_UNMADE} ({numbers}): ", reason if len(unmade) == 1 else f"of the last one, {reason}")


def _unmade(row: Mapping[str, Any]) -> bool:
    """Whether there is no such model; the verdict then goes on with a reason that is too long for a table."""
    return str(row["verdict"]).startswith(_UNMADE)


def _results(report: Report, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The last model beside the first one: how well it does, on test first, and how much less it costs."""
    if len(rows) < 2:
        return []
    first, last = rows[0], rows[-1]
    name = metrics.main_metric(report, [name for name, value in last.items() if value is not None])
    sentences = []
    for split in ("test", "validation"):
        old, new = first.get(f"{split}.{name}"), last.get(f"{split}.{name}")
        if old is not None and new is not None:
            sentences.append(
                f"{split}.{name} {figure(old)} {first['stage']}, {figure(new)} {last['stage']} ({signed(new - old)})"
            )
    less = []
    for metric, (heading, show) in _COSTS.items():
        before, after = first.get(metric), last.get(metric)
        if metric != "seconds" and before and after and before > after:
            less.append(f"{before / after:.3g} times less {heading} ({show(before)} to {show(after)})")
    return [*sentences, *less]
