"""What a file of weights holds: a row for each tensor with a small histogram of its values, and the total.

Where it was measured, also what the model costs to run: MACs by module, and latency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import number, size
from modelopt_cli.results.report import Report

_ROWS = 1000
_BARS = " ▁▂▃▄▅▆▇█"


def render_inspected(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report, `quiet` or not; the histogram goes from minus to plus the largest magnitude."""
    _layers(console, report)
    found = report.metrics
    console.print(
        f"{found['model.parameters']:,.0f} values, {found['model.sparsity']:.2%} zero; {report.details['kind']}, "
        f"{size(found['model.size_bytes'])}, compressed {size(found['model.compressed_bytes'])}"
    )
    if report.details["note"]:
        console.print(Text.assemble(("note: ", "dim"), report.details["note"]), soft_wrap=True)
    if "measured" in report.details:
        console.print()
        _macs(console, report)
        console.print()
        _latency(console, report)
    for warning in report.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)


def _layers(console: Console, report: Report) -> None:
    table = _table(console, report.name)
    table.add_column("tensor", overflow="fold")
    for name in ("shape", "dtype", "values", "zeros", "largest"):
        table.add_column(name, justify="right", no_wrap=True)
    bars = console.encoding.lower().startswith("utf")
    if bars:
        table.add_column("spread", no_wrap=True)
    histograms = report.details["histograms"]
    rows = report.tables["layers"].rows
    for tensor, shape, dtype, values, zeros, _, _, _, largest, tied in rows[:_ROWS]:
        label = Text(str(tensor)) if tied is None else Text.assemble(str(tensor), (f" (tied to {tied})", "dim"))
        spread = [_bars(histograms.get(tensor, ()))] if bars else []
        table.add_row(label, str(shape), _short(str(dtype)), f"{values:,}", f"{zeros:,}", number(largest), *spread)
    console.print(table)
    if len(rows) > _ROWS:
        console.print(f"... and {len(rows) - _ROWS:,} more (--json has them all)")


def _macs(console: Console, report: Report) -> None:
    total = report.metrics["model.macs"]
    table = _table(console, "multiply-accumulate operations (MACs) of a sample")
    table.add_column("module", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for name in ("MACs", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for module, kind, macs in report.tables["macs"].rows:
        label = Text(str(module)) if module else Text("outside its modules", style="dim")
        table.add_row(label, Text(str(kind)), f"{macs:,}", f"{float(macs or 0) / total:.1%}")
    console.print(table)
    baseline = report.details["measured"].get("baseline")
    beside = "" if baseline is None else f"; the baseline's {baseline['model.macs']:,}"
    zeros = " (zeros count like other weights)" if report.metrics["model.sparsity"] else ""
    console.print(f"{total:,.0f} MACs, {report.metrics['model.flops']:,.0f} FLOPs{beside}{zeros}")


def _latency(console: Console, report: Report) -> None:
    measured = report.details["measured"]
    compared = "baseline" in measured
    table = _table(console, "latency of a batch")
    table.add_column("model", overflow="fold")
    for name in ("batch", "median ms", "25% to 75%", "samples/s", *(["relative"] if compared else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for model, batch, median, low, high, rate, _, relative in report.tables["latency"].rows:
        cells = [_three_digits(median), f"{_three_digits(low)} to {_three_digits(high)}", f"{rate:,.0f}"]
        label = Text(str(model) if model == report.name else "baseline")
        table.add_row(label, str(batch), *cells, *([f"{relative:.3f}"] if compared else []))
    console.print(table)
    console.print(Text(_conditions(measured)))
    if compared:
        console.print(Text.assemble(("baseline: ", "dim"), measured["baseline"]["file"]), soft_wrap=True)


def _three_digits(value: Any) -> str:
    """2.3 -> `2.30`, 74.12 -> `74.1`, 0.0262 -> `0.0262`: zeros at the end stay, so that columns align."""
    before = math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, 2 - before)}f}"


def _conditions(measured: Mapping[str, Any]) -> str:
    """On what it was measured, and how."""
    threads, runs = measured["threads"], " and ".join(f"{count:,}" for count in measured["runs"].values())
    turns = ", in turns" if "baseline" in measured else ""
    return (
        f"on {measured['device']}, {threads} thread{'s' * (threads > 1)}, {measured['dtype']} inputs; "
        f"{runs} warm runs{turns}"
    )


def _table(console: Console, title: str) -> Table:
    """An empty table; its title, which may be wider, is printed."""
    console.print(Text(title, style="bold"))
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))


def _short(dtype: str) -> str:
    """`float32` -> `f32`, `bfloat16` -> `bf16`, `int64` -> `i64`."""
    return dtype.replace("float", "f").replace("uint", "u").replace("int", "i")


def _bars(bins: Sequence[int]) -> str:
    """Two bins a character, its height their share of the highest; what is not empty shows."""
    counts = [sum(bins[place : place + 2]) for place in range(0, len(bins), 2)]
    most = max(counts, default=0)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] if most else " " for count in counts)
