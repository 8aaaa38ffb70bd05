"""What a file of weights holds: a row for each tensor with a small histogram of its values, and the total.

Where it was measured, also what the model costs to run: MACs by module, and latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.cli.render.latency import latency
from modelopt_cli.core.readable import number, plural, size
from modelopt_cli.results.details import InspectionDetails, Measured
from modelopt_cli.results.report import Report

_ROWS = 1000
_BARS = " ▁▂▃▄▅▆▇█"


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report, `quiet` or not; the histogram goes from minus to plus the largest magnitude."""
    details, metrics = cast(InspectionDetails, report.details), report.metrics
    _layers(console, report, details["histograms"])
    parts.line(
        console,
        "",
        f"{plural(metrics['model.parameters'], 'value')}, {metrics['model.sparsity']:.2%} zero; {details['kind']}, "
        f"{size(metrics['model.size_bytes'])}, compressed {size(metrics['model.compressed_bytes'])}",
    )
    if details["note"]:
        parts.line(console, "note: ", details["note"])
    if "measured" in details:
        console.print()
        _macs(console, report, details["measured"])
        console.print()
        latency(console, report, details["measured"])
    parts.warnings(console, report)


def _layers(console: Console, report: Report, histograms: Mapping[str, Sequence[int]]) -> None:
    table = _table(console, report.name)
    table.add_column("tensor", no_wrap=True)
    for name in ("shape", "dtype", "values", "zeros", "largest"):
        table.add_column(name, justify="right", no_wrap=True)
    bars = console.encoding.lower().startswith("utf")
    if bars:
        table.add_column("spread", no_wrap=True)
    rows = report.records("layers")
    names = [
        f"{row['tensor']}" + ("" if row["tied to"] is None else f" (tied to {row['tied to']})") for row in rows[:_ROWS]
    ]
    cells = [
        [
            str(row["shape"]),
            _abbreviated(str(row["dtype"])),
            f"{row['values']:,}",
            f"{row['zeros']:,}",
            number(row["largest"]),
            *([_bars(histograms.get(row["tensor"], ()))] if bars else []),
        ]
        for row in rows[:_ROWS]
    ]
    parts.named(console, table, names, cells)
    if len(rows) > _ROWS:
        console.print(f"... and {len(rows) - _ROWS:,} more (--json has them all)")


def _macs(console: Console, report: Report, measured: Measured) -> None:
    total = report.metrics["model.macs"]
    table = _table(console, "multiply-accumulate operations (MACs) of a sample")
    table.add_column("module", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for name in ("MACs", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.records("macs"):
        label = Text(str(row["module"])) if row["module"] else Text("outside its modules", style="dim")
        table.add_row(label, Text(str(row["kind"])), f"{row['macs']:,}", f"{float(row['macs'] or 0) / total:.1%}")
    console.print(table)
    baseline = measured.get("baseline")
    beside = "" if baseline is None else f"; the baseline's {baseline['model.macs']:,}"
    zeros = " (zeros count like other weights)" if report.metrics["model.sparsity"] else ""
    parts.line(console, "", f"{total:,.0f} MACs, {report.metrics['model.flops']:,.0f} FLOPs{beside}{zeros}")


def _table(console: Console, title: str) -> Table:
    """An empty table; its title, which may be wider, is printed."""
    console.print(Text(title, style="bold"))
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))


def _abbreviated(dtype: str) -> str:
    """`float32` -> `f32`, `bfloat16` -> `bf16`, `int64` -> `i64`."""
    return dtype.replace("float", "f").replace("uint", "u").replace("int", "i")


def _bars(bins: Sequence[int]) -> str:
    """Two bins a character, its height their share of the highest; what is not empty shows."""
    counts = [sum(bins[first : first + 2]) for first in range(0, len(bins), 2)]
    most = max(counts, default=0)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] if most else " " for count in counts)
