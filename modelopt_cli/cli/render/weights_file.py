"""What pruning a file of weights did: a row for each pruned tensor, the total, what was spared and why, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import gates, size
from modelopt_cli.results.report import Report

_ROWS = 40


def render_pruned(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the total, the gates, the warnings and the file."""
    if not quiet:
        layers(console, report)
        spared(console, report.details["spared"], report.details.get("spared_names", {}))
    about = "about {}, estimated" if report.details["compressed_estimated"] else "{}"
    _sizes(console, report.details["before"], report.metrics, about)
    gates(console, report.gates)
    if report.details["note"] and not quiet:
        console.print(Text.assemble(("note: ", "dim"), report.details["note"]), soft_wrap=True)
    for warning in report.warnings:
        console.print(Text.assemble(("note: ", "yellow"), warning), soft_wrap=True)
    if "model" in report.artefacts:
        console.print(Text.assemble((f"{'pruned model':<14}", "dim"), report.artefacts["model"]), soft_wrap=True)
    elif report.details["dry_run"]:
        console.print("dry run: nothing was written")


def spared(
    console: Console, rules: Mapping[str, int], names: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Each rule, how many tensors it spared, and the first of them where `names` has them."""
    for rule, count in rules.items():
        first = names.get(rule, ())
        more = f": {', '.join(first)}{', ...' * (count > len(first))}" if first else ""
        told = f"{count} tensor{'s' * (count > 1)}: {rule}{more}"
        console.print(Text.assemble(("spared ", "dim"), told), soft_wrap=True)


def layers(console: Console, report: Report) -> None:
    """A row for each pruned tensor, and the total."""
    pruned = [row for row in report.tables["layers"].rows if row[6] is None]
    table = Table(title=f"{report.name}: pruned tensors", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("tensor", overflow="fold")
    for name in ("shape", "weights", "zeroed", "sparsity"):
        table.add_column(name, justify="right", no_wrap=True)
    for tensor, shape, count, _, gone, share, _ in pruned[:_ROWS]:
        table.add_row(Text(str(tensor)), str(shape), f"{count:,}", f"{gone:,}", f"{share:.2%}")
    if len(pruned) > _ROWS:
        table.add_row(f"... and {len(pruned) - _ROWS} more (--json has them all)", "", "", "", "")
    weights, zeroed = (sum(int(row[place] or 0) for row in pruned) for place in (2, 4))
    zero = sum(int(row[3] or 0) for row in pruned) + zeroed
    table.add_section()
    table.add_row("all of these", "", f"{weights:,}", f"{zeroed:,}", f"{zero / weights if weights else 0:.2%}")
    console.print(table)


def _sizes(console: Console, before: Mapping[str, Any], after: Mapping[str, float], about: str) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("whole file")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    for name, label in (("model.parameters", "values"), ("model.nonzero", "not zero")):
        table.add_row(label, f"{before[name]:,.0f}", f"{after[name]:,.0f}")
    table.add_row("sparsity", f"{before['model.sparsity']:.2%}", f"{after['model.sparsity']:.2%}")
    for name, label, form in (
        ("model.size_bytes", "size", "{}"),
        ("model.compressed_bytes", "size, compressed", about),
    ):
        shown = (form.format(size(found[name])) if name in found else "–" for found in (before, after))
        table.add_row(label, *shown)
    console.print(table)
