"""What pruning a file of weights did: a row for each pruned tensor, the total, what was spared and why, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import size
from modelopt_cli.results.details import WeightsFileDetails
from modelopt_cli.results.report import Report

_ROWS = 40


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the sizes, the gates, the warnings and the file."""
    details = cast(WeightsFileDetails, report.details)
    if not quiet:
        layers(console, report)
        spared(console, details["spared"], details.get("spared_names", {}))
    _sizes(console, details["before"], report.metrics, estimated=details["compressed_estimated"])
    parts.gates(console, report.gates)
    if details["note"] and not quiet:
        parts.line(console, "note: ", details["note"])
    parts.warnings(console, report, "note: ")
    if "model" in report.artefacts:
        parts.line(console, f"{'pruned model':<14}", report.artefacts["model"])
    elif details["dry_run"]:
        console.print("dry run: nothing was written")


def spared(
    console: Console, rules: Mapping[str, int], names: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Each rule, how many tensors it spared, and the first of them where `names` has them."""
    for rule, count in rules.items():
        first = names.get(rule, ())
        more = f": {', '.join(first)}{', ...' * (count > len(first))}" if first else ""
        parts.line(console, "spared ", f"{count} tensor{'s' * (count > 1)}: {rule}{more}")


def layers(console: Console, report: Report) -> None:
    """A row for each pruned tensor, and the total."""
    pruned = [row for row in report.records("layers") if row["spared"] is None]
    table = parts.titled(f"{report.name}: pruned tensors", pad_edge=True)
    table.add_column("tensor", overflow="fold")
    for name in ("shape", "weights", "zeroed", "sparsity"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in pruned[:_ROWS]:
        counts = [f"{row['weights']:,}", f"{row['zeroed']:,}", f"{row['sparsity']:.2%}"]
        table.add_row(Text(str(row["tensor"])), str(row["shape"]), *counts)
    if len(pruned) > _ROWS:
        table.add_row(f"... and {len(pruned) - _ROWS} more (--json has them all)", "", "", "", "")
    weights, before, zeroed = (
        sum(int(row[name] or 0) for row in pruned) for name in ("weights", "zero before", "zeroed")
    )
    share = (before + zeroed) / weights if weights else 0
    table.add_section()
    table.add_row("all of these", "", f"{weights:,}", f"{zeroed:,}", f"{share:.2%}")
    console.print(table)


def _sizes(console: Console, before: Mapping[str, float], after: Mapping[str, float], *, estimated: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("whole file")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name, label in (("model.parameters", "values"), ("model.nonzero", "not zero")):
        table.add_row(label, f"{before[name]:,.0f}", f"{after[name]:,.0f}")
    table.add_row("sparsity", f"{before['model.sparsity']:.2%}", f"{after['model.sparsity']:.2%}")
    compressed = "about {}, estimated" if estimated else "{}"
    for name, label, form in (
        ("model.size_bytes", "size", "{}"),
        ("model.compressed_bytes", "size, compressed", compressed),
    ):
        table.add_row(label, *(form.format(size(side[name])) if name in side else "–" for side in (before, after)))
    console.print(table)
