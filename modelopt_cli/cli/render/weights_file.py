"""What pruning a file of weights did: a row for each pruned tensor, the total, what was spared and why, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.table import Table

from modelopt_cli.cli.render import parts
from modelopt_cli.core.readable import plural, size
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
    if details["note"] and not quiet:
        parts.line(console, "note: ", details["note"])
    parts.warnings(console, report, "note: ")
    parts.result(console, _result(report))
    parts.gates(console, report.gates)
    parts.files(console, report, {"model": "pruned model"})
    if "model" not in report.artefacts and details["dry_run"]:
        console.print("dry run: nothing was written")


def _result(report: Report) -> str:
    weights, zeros = (sum(_counts(row)[at] for row in _pruned(report)) for at in (0, 1))
    return f"{zeros:,} of {plural(weights, 'weight')} that may go are 0 ({zeros / weights:.2%})" if weights else ""


def _pruned(report: Report) -> list[dict[str, Any]]:
    return [row for row in report.records("layers") if row["spared"] is None]


def _counts(row: Mapping[str, Any]) -> tuple[int, int]:
    """(weights, zeros among them)"""
    return int(row["weights"] or 0), int(row["zero before"] or 0) + int(row["zeroed"] or 0)


def spared(
    console: Console, rules: Mapping[str, int], names: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> None:
    """Each rule, how many tensors it spared, and the first of them where `names` has them."""
    for rule, count in rules.items():
        first = names.get(rule, ())
        more = f": {', '.join(first)}{', ...' * (count > len(first))}" if first else ""
        parts.line(console, "spared ", f"{plural(count, 'tensor')}: {rule}{more}")


def layers(console: Console, report: Report) -> None:
    """A row for each pruned tensor, and the total."""
    pruned = _pruned(report)
    table = parts.titled(f"{report.name}: pruned tensors", pad_edge=True)
    table.add_column("tensor", no_wrap=True)
    for name in ("shape", "weights", "zeroed", "sparsity"):
        table.add_column(name, justify="right", no_wrap=True)
    names = [str(row["tensor"]) for row in pruned[:_ROWS]]
    rows = [
        [str(row["shape"]), f"{row['weights']:,}", f"{row['zeroed']:,}", f"{row['sparsity']:.2%}"]
        for row in pruned[:_ROWS]
    ]
    if len(pruned) > _ROWS:
        names.append(f"... and {len(pruned) - _ROWS} more")
        rows.append(["", "", "", ""])
    weights, zeros = (sum(_counts(row)[at] for row in pruned) for at in (0, 1))
    zeroed = sum(int(row["zeroed"] or 0) for row in pruned)
    total = ["", f"{weights:,}", f"{zeroed:,}", f"{zeros / weights if weights else 0:.2%}"]
    parts.named(console, table, [*names, "all of these"], [*rows, total], total=True)


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
