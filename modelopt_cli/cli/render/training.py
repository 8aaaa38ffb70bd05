"""A model that was trained or judged: its metrics, split by split, and what of a run there is that did not end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from rich.console import Console
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import duration, number, size
from modelopt_cli.results.details import TrainingDetails
from modelopt_cli.results.report import Report

_SPLITS = ("train", "validation", "test", "data")
_FILES = {
    "tables": "tables",
    "report": "report",
    "model": "model",
    "trial_dir": "its folder",
    "log": "log",
    "directory": "run",
}


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves out the folds."""
    if not quiet:
        folds(console, report)
    metrics(console, report.metrics)
    remarks(console, report)
    parts.files(console, report, _FILES)


def folds(console: Console, report: Report) -> None:
    """The metrics of each fold of a cross-validation, where there was one."""
    if "folds" in report.tables:
        table = report.tables["folds"]
        parts.cells(console, "folds", table.columns, table.rows)


def metrics(console: Console, values: Mapping[str, float]) -> None:
    """Those that several splits have side by side, the others below."""
    splits: dict[str, dict[str, float]] = {}
    others: dict[str, float] = {}
    for name, value in values.items():
        split, _, rest = name.partition(".")
        if split in _SPLITS and rest and name != "train.seconds":
            splits.setdefault(rest, {})[split] = value
        else:
            others[name] = value
    columns = [split for split in _SPLITS if any(split in row for row in splits.values())]
    if splits:
        rows = [[name, *(row.get(column) for column in columns)] for name, row in splits.items()]
        parts.cells(console, "metrics", ["metric", *columns], rows)
    for name, value in others.items():
        console.print(Text.assemble("  ", (name, "cyan"), " ", _measure(name, value)))


def _measure(name: str, value: float) -> str:
    """By its unit, which the name ends with."""
    if name.endswith("seconds"):
        return duration(value)
    if name.endswith("_bytes"):
        return size(value)
    return f"{int(value):,}" if float(value).is_integer() and abs(value) >= 1000 else number(value)


def remarks(console: Console, report: Report) -> None:
    """What there is to know about the metrics, gates and warnings."""
    details = cast(TrainingDetails, report.details)
    parts.positive(console, details.get("positive_class"))
    stopping = details.get("early_stopping")
    if stopping is not None:
        text = f"{stopping['samples']} of {stopping['of']} train samples ({stopping['drawn']})"
        parts.line(console, "early stopping ", text)
    parts.gates(console, report.gates)
    parts.warnings(console, report)
