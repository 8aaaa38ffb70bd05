"""A model's units: a row for each kind of group that stands or falls together, what is frozen and why, the coverage.

Groups of alike blocks share a row: a number in the path that is not the same for all of them is a `*`, as in the globs
of pruning.include.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render.pruning import records
from modelopt_cli.results.report import Report

_ROWS = 40  # kinds of groups shown
_FROZEN = 12
_NOTES = 6  # for each sign
_CLAUSES = 2  # of a reason
_NAMES = 4  # in an enumeration
_WIDE = 100  # columns of a terminal from which on places stand beside the numbers, not below the group
_MORE = "... and {:,} more (--json has them all)"
_COSTS = ("units", "parameters of a unit", "macs of a unit")


def render_groups(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report, `quiet` or not."""
    kinds = _kinds(records(report, "groups"))
    console.print(Text(f"{report.name}: units that stand or fall together", style="bold"))
    if kinds:
        _groups(console, kinds)
        _notes(console, kinds)
    else:
        console.print("none: nothing can be taken out of this model")
    _frozen(console, records(report, "frozen"))
    _coverage(console, report)


def _kinds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of groups that differ by the number of a block alone are one, which says how many they are."""
    alike: dict[object, list[dict[str, Any]]] = {}
    for row in rows:
        named = (_pattern(row["group"]), _signs(row), *map(_pattern, _sides(row)))
        alike.setdefault((*named, *(row[label] for label in _COSTS)), []).append(row)
    return [
        {**found[0], "sides": _sides(found[0]), "count": len(found), "group": _shared([row["group"] for row in found])}
        for found in alike.values()
    ]


def _shared(paths: Sequence[str]) -> str:
    """The path, with a `*` where they differ."""
    parts = zip(*(path.split(".") for path in paths), strict=True)
    return ".".join(each[0] if len(set(each)) == 1 else "*" for each in parts)


def _pattern(path: str) -> str:
    """`h.0.attn` -> `h.*.attn`; a number at the end stays."""
    *parts, last = path.split(".")
    return ".".join([*("*" if part.isdigit() else part for part in parts), last])


def _signs(row: Mapping[str, Any]) -> str:
    """What the notes explain."""
    signs = {"!": row["computed over"], "G": row["how"] == "graph", "=": row["tied to"]}
    return "".join(sign for sign, is_so in signs.items() if is_so)


def _groups(console: Console, kinds: Sequence[dict[str, Any]]) -> None:
    arrow = "→" if console.encoding.lower().startswith("utf") else "->"
    several, narrow = any(kind["count"] > 1 for kind in kinds), console.width < _WIDE
    table = _table()
    table.add_column(f"group{f', made in {arrow} taken in' * narrow}", no_wrap=not narrow, overflow="fold")
    for label in (*(["times"] if several else []), "units", "parameters", "MACs"):
        table.add_column(label, justify="right", no_wrap=True)
    if not narrow:
        table.add_column(f"made in {arrow} taken in", overflow="fold")
    table.add_column("", no_wrap=True)
    for kind in kinds[:_ROWS]:
        cells = [f"{kind[label]:,}" for label in ((*(["count"] if several else []), *_COSTS))]
        signs = Text(_signs(kind), style="yellow")
        if narrow:
            sides = f"\n{arrow} ".join(_broken(side, console) for side in kind["sides"]).replace("\n", "\n  ")
            table.add_row(Text.assemble(_broken(kind["group"], console), (f"\n  {sides}", "dim")), *cells, signs)
        else:
            where = Text(f" {arrow} ".join(kind["sides"]))
            table.add_row(Text(_broken(kind["group"], console)), *cells, where, signs)
    console.print(table)
    if len(kinds) > _ROWS:
        console.print(Text(_MORE.format(sum(kind["count"] for kind in kinds[_ROWS:])), style="dim"))
    told = "parameters and MACs (of a sample): how many fewer when one unit goes; [dimension]; +more such places"
    console.print(Text(told, style="dim"))


def _sides(row: Mapping[str, Any]) -> list[str]:
    """`weight[0] +1`, `..fc2.weight[1]`: the first place on each side, and how many more; without the group's path."""
    found = []
    for side in ("made in", "taken in"):
        if row[side]:
            first, *more = row[side].split(", ")
            found.append(_relative(first, row["group"]) + (f" +{len(more)}" if more else ""))
    return found


def _relative(tensor: str, group: str) -> str:
    """`h.0.mlp.fc2.weight[1]` beside `h.0.mlp.fc1` is `..fc2.weight[1]`."""
    own, parts = group.partition("#")[0].split("."), tensor.split(".")
    same = next((place for place, (one, other) in enumerate(zip(own, parts, strict=False)) if one != other), len(own))
    if same == len(own) and len(parts) > same:
        return ".".join(parts[same:])
    return (".." if same else "") + ".".join(parts[same:])


def _notes(console: Console, kinds: Sequence[dict[str, Any]]) -> None:
    """What the signs mean, once for each reason."""
    over, why = (_by_reason(kinds, column) for column in ("computed over", "why not in place"))
    shifting = [(names, _computed(reason)) for reason, names in over.items()]
    graph = [(names, _first_clauses(reason)) for reason, names in why.items()]
    ties = {
        tuple(sorted({_pattern(name) for name in (kind["group"], *kind["tied to"].split(", "))}))
        for kind in kinds
        if kind["tied to"]
    }
    _explain(console, "!", "change what is computed over all units; structure.shift_statistics allows it", shifting)
    _explain(console, "G", "go from the graph alone: the model's own modules cannot do without", graph)
    _explain(console, "=", "lose equal shares, because one attribute holds their sizes", [(tie, "") for tie in ties])


def _by_reason(kinds: Iterable[Mapping[str, Any]], column: str) -> dict[str, list[str]]:
    """Reason -> groups."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        if kind[column]:
            found.setdefault(kind[column], []).append(kind["group"])
    return found


def _computed(text: str) -> str:
    """`statistics in h.0.norm, statistics in h.1.norm` -> `statistics in h.*.norm`."""
    found: dict[str, dict[str, None]] = {}
    for each in text.split(", "):
        what, _, place = each.partition(" in ")
        found.setdefault(what, {})[_pattern(place)] = None
    return "; ".join(f"{what} in {_enumerated(places)}" for what, places in found.items())


def _first_clauses(reason: str) -> str:
    clauses = reason.split("; ")
    return "; ".join(clauses[:_CLAUSES]) + ("; ..." if len(clauses) > _CLAUSES else "")


def _explain(console: Console, sign: str, meaning: str, found: Sequence[tuple[Sequence[str], str]]) -> None:
    """A line for each: the groups, and what is so of them."""
    if not found:
        return
    console.print(Text.assemble((f"{sign} ", "yellow"), meaning))
    for names, told in found[:_NOTES]:
        text = Text.assemble(_enumerated(names), (f": {told}" if told else "", "dim"))
        console.print(Padding(text, (0, 0, 0, 2), expand=False))
    if len(found) > _NOTES:
        console.print(Text(f"  {_MORE.format(len(found) - _NOTES)}", style="dim"))


def _enumerated(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMES} more" if len(listed) > _NAMES else ""
    return ", ".join(listed[:_NAMES]) + more


def _frozen(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """What lies in no group; the rest, which shrinks along another dimension, is counted."""
    stuck = [row for row in rows if row["in no group"]]
    console.print()
    console.print(Text("frozen: dimensions that stay as they are", style="bold"))
    table = _table()
    table.add_column("where", no_wrap=True)
    for label in ("size", "parameters", "in no group"):
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in stuck[:_FROZEN]:
        cells = [f"{row[label]:,}" for label in ("units", "parameters", "in no group")]
        more = f" +{len(row['also in'].split(', '))}" if row["also in"] else ""
        table.add_row(Text(_broken(row["where"] + more, console)), *cells, Text(row["why"]))
    if stuck:
        console.print(table)
    if len(stuck) > _FROZEN:
        console.print(Text(_MORE.format(len(stuck) - _FROZEN), style="dim"))
    if len(stuck) < len(rows):
        told = f"{'and ' * bool(stuck)}{len(rows) - len(stuck):,} along which groups hold all parameters (--json)"
        console.print(Text(told, style="dim"))


def _coverage(console: Console, report: Report) -> None:
    found = report.details["coverage"]
    exact, reasons = found["share_without_shifts"], found["reasons"]
    beside = "" if exact == found["share"] else f"; those without ! hold {exact:.2%}"
    console.print()
    text = f"groups hold {found['share']:.2%} of {found['parameters']:,} parameters{beside}"
    console.print(Text.assemble(("coverage", "bold"), f"  {text}"), soft_wrap=True)
    for reason, each in list(reasons.items())[:_NOTES]:
        console.print(Text.assemble(f"{each['share']:>8.2%}  ", ("stay: ", "dim"), reason), soft_wrap=True)
    if len(reasons) > _NOTES:
        console.print(Text(_MORE.format(len(reasons) - _NOTES), style="dim"))
    unknown = report.details["unknown_operators"]
    if unknown:
        names = _enumerated(f"{name} ({count} times)" if count > 1 else name for name, count in unknown.items())
        console.print(Text.assemble(("note: ", "yellow"), f"operators that are not known: {names}"), soft_wrap=True)


def _broken(path: str, console: Console) -> str:
    """A long path on several lines, each ending with a dot."""
    lines, most = [""], max(24, console.width // 3)
    for part in path.split("."):
        if len(lines[-1]) + len(part) >= most and lines[-1]:
            lines.append("  ")
        lines[-1] += f"{part}."
    return "\n".join(lines)[:-1]


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
