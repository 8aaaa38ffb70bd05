"""How long models take for a batch: a row for each model, runtime and batch size, and how it was measured."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import plural
from modelopt_cli.results.details import Measured
from modelopt_cli.results.report import Report


def latency(console: Console, report: Report, measured: Measured) -> None:
    """The table `latency` of a report; `measured`: its details of how."""
    compared = "baseline" in measured
    runtimes = measured.get("runtimes", ["eager"]) != ["eager"]
    relative = compared or len(measured.get("runtimes", ())) > 1
    console.print(Text("latency of a batch", style="bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    several = len({row["model"] for row in report.records("latency")}) > 1
    named = several or not runtimes
    if named:
        table.add_column("model", overflow="fold", min_width=8)
    if runtimes:
        table.add_column("runtime", no_wrap=True)
    rates = ["samples/s"] if not (several and runtimes) else []  # which follow from the medians
    for name in ("batch", "median ms", "25% to 75%", *rates, *(["relative"] if relative else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.records("latency"):
        low, median, high = (_three_digits(row[f"{name} ms"]) for name in ("low", "median", "high"))
        table.add_row(
            *([Text("baseline" if compared and row["model"] != report.name else str(row["model"]))] if named else []),
            *([str(row["runtime"])] if runtimes else []),
            str(row["batch size"]),
            median,
            f"{low} to {high}",
            *([f"{row['samples per second']:,.0f}"] if rates else []),
            *([f"{row['relative to baseline']:.3f}"] if relative else []),
        )
    console.print(table)
    parts.line(console, "", _conditions(measured))
    if compared:
        parts.line(console, "baseline: ", measured["baseline"]["file"])


def _three_digits(value: float) -> str:
    """2.3 -> `2.30`, 74.12 -> `74.1`, 0.0262 -> `0.0262`: zeros at the end stay, so that columns align."""
    before = math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, 2 - before)}f}"


def _conditions(measured: Measured) -> str:
    """On what it was measured, and how."""
    threads, runs = measured["threads"], " and ".join(f"{count:,}" for count in measured["runs"].values())
    turns = ", in turns" if "baseline" in measured or len(measured.get("runtimes", ())) > 1 else ""
    return f"on {measured['device']}, {plural(threads, 'thread')}, {measured['dtype']} inputs; {runs} warm runs{turns}"
