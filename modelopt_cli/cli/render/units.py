"""A pruning of units: its groups, what the model costs before and after, how it does, what was asked and reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from rich.console import Console

from modelopt_cli.cli.render import parts, pruning
from modelopt_cli.core.readable import count, plural
from modelopt_cli.results.details import PruningDetails
from modelopt_cli.results.report import Report

_ROWS = 20


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report; `quiet` leaves the costs, the metrics, the gates and the files."""
    details = cast(PruningDetails, report.details)
    if not quiet:
        _groups(console, report)
        for rule, groups in details.get("spared", {}).items():
            parts.line(console, "spared ", f"{plural(groups, 'group')}: {rule}")
        pruning.rounds(console, report)
    pruning.stages(console, report, {"model.parameters": "{:,.0f}".format})
    if report.records("costs"):
        parts.costs(console, report.records("costs"))
        parts.latency(console, report)
    amounts = _amounts(details.get("asked") or {}, details.get("reached", {}))
    pruning.closing(console, report, details, amounts)


def _groups(console: Console, report: Report) -> None:
    pruned = [row for row in report.records("groups") if row["spared"] is None]
    table = parts.titled(f"{report.name}: groups of units", pad_edge=True)
    table.add_column("group", no_wrap=True)
    for name in ("units", "left", "removed"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [[f"{row['units']:,}", f"{row['left']:,}", f"{row['share removed']:.1%}"] for row in pruned[:_ROWS]]
    names = [str(row["group"]) for row in pruned[:_ROWS]]
    if len(pruned) > _ROWS:
        names.append(f"... and {len(pruned) - _ROWS} more")
        rows.append(["", "", ""])
    units, left = (sum(row[name] for row in pruned) for name in ("units", "left"))
    total = [f"{units:,}", f"{left:,}", f"{1 - left / max(units, 1):.1%}"]
    parts.named(console, table, [*names, "all of these"], [*rows, total], total=True)


def _amounts(asked: Mapping[str, Any], reached: Mapping[str, float]) -> dict[str, str]:
    """What was asked and what was reached stand side by side."""
    if not asked or not reached:
        return {}
    came = f"{reached.get('pruning.units_removed', 0.0):.2%} of the units that may go are gone"
    if "budget" in asked:
        name, value = next((name, value) for name, value in asked["budget"].items() if name != "latency_batch")
        wanted = f"at most {value if isinstance(value, str) else f'{value:,}'} {name}"
        metric = {"size_bytes": "model.file_bytes"}.get(name, f"model.{name}")
        if name == "latency_ms" and asked["budget"].get("latency_batch", 1) != 1:
            metric = f"model.latency_ms_{asked['budget']['latency_batch']}"
        if metric in reached:
            came = f"{count(reached[metric])} {name}; {came}"
    elif "threshold" in asked:
        wanted = f"units that score below {asked['threshold']:g}"
    else:
        wanted = f"{asked['amount']:.2%} of the units that may go"
    return {"asked": wanted, "reached": came}
