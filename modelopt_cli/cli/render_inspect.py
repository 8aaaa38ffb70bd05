"""What a file of weights holds: a row for each tensor with a small histogram of its values, and the total."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import number, size
from modelopt_cli.results.report import Report

_BARS = " ▁▂▃▄▅▆▇█"


def render_inspected(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report, `quiet` or not; the histogram goes from minus to plus the largest magnitude."""
    table = Table(
        title=report.name,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("tensor", overflow="fold")
    for name in ("shape", "dtype", "values", "zeros", "largest"):
        table.add_column(name, justify="right", no_wrap=True)
    bars = console.encoding.lower().startswith("utf")
    if bars:
        table.add_column("spread", no_wrap=True)
    histograms = report.details["histograms"]
    for tensor, shape, dtype, values, zeros, _, _, _, largest, tied in report.tables["layers"].rows:
        label = Text(str(tensor)) if tied is None else Text.assemble(str(tensor), (f" (tied to {tied})", "dim"))
        spread = [_bars(histograms.get(tensor, ()))] if bars else []
        table.add_row(label, str(shape), _short(str(dtype)), f"{values:,}", f"{zeros:,}", number(largest), *spread)
    console.print(table)
    found = report.metrics
    console.print(
        f"{found['model.parameters']:,.0f} values, {found['model.sparsity']:.2%} zero; {report.details['kind']}, "
        f"{size(found['model.size_bytes'])}, compressed {size(found['model.compressed_bytes'])}"
    )
    if report.details["note"]:
        console.print(Text.assemble(("note: ", "dim"), report.details["note"]), soft_wrap=True)


def _short(dtype: str) -> str:
    """`float32` -> `f32`, `bfloat16` -> `bf16`, `int64` -> `i64`."""
    return dtype.replace("float", "f").replace("uint", "u").replace("int", "i")


def _bars(bins: Sequence[int]) -> str:
    """Two bins a character, its height their share of the highest; what is not empty shows."""
    counts = [sum(bins[place : place + 2]) for place in range(0, len(bins), 2)]
    most = max(counts, default=0)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] if most else " " for count in counts)
