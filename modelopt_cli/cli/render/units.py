"""A pruning of units: its groups, what the model costs before and after, how it does, what was asked and reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import gates, number, positive, size
from modelopt_cli.cli.render.pruning import files, records, rounds, stages
from modelopt_cli.results.report import Report

_ROWS = 20


def render_slimming(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the costs, the metrics, the gates and the files."""
    if not quiet:
        _groups(console, report)
        for rule, count in report.details.get("spared", {}).items():
            console.print(Text.assemble(("spared ", "dim"), f"{count} x {rule}"), soft_wrap=True)
        if "rounds" in report.tables and len(report.tables["rounds"].rows) > 1:
            rounds(console, report)
    stages(console, report, [("model.parameters", "{:,.0f}".format)])
    _costs(console, report)
    _amounts(console, report.details.get("asked") or {}, report.details.get("reached", {}))
    positive(console, report)
    gates(console, report.gates)
    files(console, report)


def _groups(console: Console, report: Report) -> None:
    found = [row for row in records(report, "groups") if row["spared"] is None]
    table = Table(
        title=f"{report.name}: groups of units", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("group", overflow="fold")
    for name in ("units", "left", "removed"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found[:_ROWS]:
        table.add_row(Text(row["group"]), f"{row['units']:,}", f"{row['left']:,}", f"{row['share removed']:.1%}")
    if len(found) > _ROWS:
        table.add_row(f"... and {len(found) - _ROWS} more (--json has them all)", "", "", "")
    units, left = (sum(row[name] for row in found) for name in ("units", "left"))
    table.add_section()
    table.add_row("all of these", f"{units:,}", f"{left:,}", f"{1 - left / max(units, 1):.1%}")
    console.print(table)


def _costs(console: Console, report: Report) -> None:
    table = Table(title="costs", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("of the model")
    for name in ("before", "after", "times less"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in records(report, "costs"):
        show = size if row["what"].startswith("bytes") else _plain
        less = row["times less"]
        table.add_row(row["what"], show(row["before"]), show(row["after"]), "–" if less is None else f"{less:.2f}")
    console.print(table)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else number(value)


def _amounts(console: Console, asked: Mapping[str, Any], reached: Mapping[str, Any]) -> None:
    """What was asked and what was reached stand side by side."""
    if not asked or not reached:
        return
    share = reached.get("pruning.units_removed", 0.0)
    text = f"{share:.2%} of the units that may go are gone"
    if "budget" in asked:
        name, value = next((name, value) for name, value in asked["budget"].items() if name != "latency_batch")
        shown = value if isinstance(value, str) else f"{value:,}"
        told = f"at most {shown} {name}"
        metric = {"size_bytes": "model.file_bytes"}.get(name, f"model.{name}")
        if name == "latency_ms" and asked["budget"].get("latency_batch", 1) != 1:
            metric = f"model.latency_ms_{asked['budget']['latency_batch']}"
        if metric in reached:
            text = f"{_plain(reached[metric])} {name}; {text}"
    elif "threshold" in asked:
        told = f"units that score below {asked['threshold']:g}"
    else:
        told = f"{asked['amount']:.2%} of the units that may go"
    console.print(Text.assemble(("asked    ", "dim"), told), soft_wrap=True)
    console.print(Text.assemble(("reached  ", "dim"), text), soft_wrap=True)
