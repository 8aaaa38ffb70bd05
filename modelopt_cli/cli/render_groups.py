"""A model's units: a row for each group that stands or falls together, what is frozen and why, and the coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render_pruning import records
from modelopt_cli.results.report import Report

_ROWS = 40  # groups shown
_FROZEN = 12
_REASONS = 6
_NAMES = 4  # groups named in a note
_MORE = "... and {:,} more (--json has them all)"


def render_groups(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report, `quiet` or not."""
    groups = records(report, "groups")
    _groups(console, report.name, groups)
    _notes(console, groups)
    _frozen(console, records(report, "frozen"))
    _coverage(console, report)


def _groups(console: Console, name: str, rows: list[dict[str, Any]]) -> None:
    console.print(Text(f"{name}: units that stand or fall together", style="bold"))
    if not rows:
        console.print("none: nothing can be taken out of this model")
        return
    table = _table()
    table.add_column("group", overflow="fold")
    for label in ("units", "parameters", "MACs"):
        table.add_column(label, justify="right", no_wrap=True)
    arrow = "→" if console.encoding.lower().startswith("utf") else "->"
    table.add_column(f"made in {arrow} taken in", overflow="fold")
    table.add_column("", no_wrap=True)
    for row in rows[:_ROWS]:
        cost = [f"{row[label]:,}" for label in ("units", "parameters of a unit", "macs of a unit")]
        table.add_row(Text(row["group"]), *cost, Text(_places(row, arrow)), Text(_marks(row), style="yellow"))
    if len(rows) > _ROWS:
        table.add_row(Text(_MORE.format(len(rows) - _ROWS), style="dim"), *[""] * 5)
    console.print(table)
    console.print(Text("parameters and MACs (of a sample): how many fewer when one unit goes", style="dim"))


def _places(row: Mapping[str, Any], arrow: str) -> str:
    """`fc1.weight[0] +1 → fc2.weight[1]`: the first of each, and how many more; in brackets the dimension."""
    sides = (row[side].split(", ") for side in ("made in", "taken in") if row[side])
    return f" {arrow} ".join(f"{first} +{len(more)}" if more else first for first, *more in sides)


def _marks(row: Mapping[str, Any]) -> str:
    """Signs that the notes explain."""
    marks = {"≠": row["computed over"], "G": row["how"] == "graph", "=": row["tied to"]}
    return "".join(mark for mark, is_so in marks.items() if is_so)


def _notes(console: Console, rows: list[dict[str, Any]]) -> None:
    """What the signs mean, once for each reason."""
    for mark, column, told in (
        ("≠", "computed over", "changes meaning: {} is computed over all units (structure.shift_statistics allows it)"),
        ("G", "why not in place", "only as a graph, not in the model's own modules: {}"),
    ):
        reasons: dict[str, list[str]] = {}
        for row in rows:
            if row[column]:
                reasons.setdefault(row[column], []).append(row["group"])
        for reason, names in list(reasons.items())[:_REASONS]:
            _note(console, mark, f"{_named(names)}: {told.format(reason)}")
        if len(reasons) > _REASONS:
            _note(console, mark, _MORE.format(len(reasons) - _REASONS))
    ties = {frozenset({row["group"], *row["tied to"].split(", ")}) for row in rows if row["tied to"]}
    for names in sorted(map(sorted, ties))[:_REASONS]:
        _note(console, "=", f"{_named(names)}: lose the same share, because one attribute holds their sizes")
    if len(ties) > _REASONS:
        _note(console, "=", _MORE.format(len(ties) - _REASONS))


def _named(names: list[str]) -> str:
    return ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")


def _note(console: Console, mark: str, text: str) -> None:
    console.print(Text.assemble((f"{mark} ", "yellow"), text), soft_wrap=True)


def _frozen(console: Console, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    stuck = [row for row in rows if row["in no group"]]
    console.print()
    console.print(Text("frozen: dimensions that stay as they are", style="bold"))
    table = _table()
    table.add_column("where", overflow="fold")
    for label in ("size", "parameters", "in no group"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in stuck[:_FROZEN]:
        cells = [f"{row[label]:,}" for label in ("units", "parameters", "in no group")]
        more = len(row["also in"].split(", ")) if row["also in"] else 0
        table.add_row(Text(f"{row['where']} +{more}" if more else row["where"]), *cells, Text(row["why"]))
    if len(stuck) > _FROZEN:
        table.add_row(Text(_MORE.format(len(stuck) - _FROZEN), style="dim"), *[""] * 4)
    if stuck:
        console.print(table)
    if len(stuck) < len(rows):
        told = f"{'and ' * bool(stuck)}{len(rows) - len(stuck):,} along which groups hold every parameter (--json)"
        console.print(Text(told, style="dim"))


def _coverage(console: Console, report: Report) -> None:
    found = report.details["coverage"]
    console.print()
    console.print(Text.assemble(("coverage  ", "bold"), _share(found)), soft_wrap=True)
    for reason, each in list(found["reasons"].items())[:_REASONS]:
        console.print(Text.assemble((f"{each['share']:>8.2%}  ", "dim"), reason), soft_wrap=True)
    if len(found["reasons"]) > _REASONS:
        console.print(Text(_MORE.format(len(found["reasons"]) - _REASONS), style="dim"))
    unknown = report.details["unknown_operators"]
    if unknown:
        names = ", ".join(f"{name} x {count}" if count > 1 else name for name, count in unknown.items())
        console.print(Text.assemble(("note: ", "yellow"), f"operators that are not known: {names}"), soft_wrap=True)


def _share(found: Mapping[str, Any]) -> str:
    text = f"units hold {found['share']:.2%} of {found['parameters']:,} parameters"
    exact = found["share_without_shifts"]
    beside = "" if exact == found["share"] else f" ({exact:.2%} without those that change meaning)"
    stays = "; of the others stay, because of:" if found["reasons"] else ""
    return f"{text}{beside}{stays}"


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
