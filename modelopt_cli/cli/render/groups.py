"""A model's units: a row for each kind of group that stands or falls together, what is frozen and why, the coverage.

Groups of alike blocks share a row: a number in the path that is not the same for all of them is a `*`, as in the globs
of pruning.include.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import parts
from modelopt_cli.cli.render.console import WARNING, hanging
from modelopt_cli.core.readable import plural
from modelopt_cli.results.details import GroupsDetails
from modelopt_cli.results.report import Report

_ROWS = 40  # kinds of groups shown
_FROZEN = 12
_NOTES = 6  # for each sign
_CLAUSES = 2  # of a reason
_NAMES = 4  # in an enumeration
_WIDE = 100  # columns of a terminal from which on places stand beside the numbers, not below the group
_MORE = "... and {:,} more (--json has them all)"
_COSTS = ("units", "parameters of a unit", "macs of a unit")


def render(console: Console, report: Report, *, quiet: bool) -> None:
    """Print the report, `quiet` or not."""
    kinds = _kinds(report.records("groups"))
    console.print(Text(f"{report.name}: units that stand or fall together", style="bold"))
    if kinds:
        _groups(console, kinds)
        _notes(console, kinds)
    else:
        console.print("none: nothing can be taken out of this model")
    _frozen(console, report.records("frozen"))
    _coverage(console, cast(GroupsDetails, report.details))


def _kinds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of groups that differ by the number of a block alone are one, which says how many they are."""
    alike: dict[object, list[dict[str, Any]]] = {}
    for row in rows:
        named = (_pattern(row["group"]), _signs(row), *map(_pattern, _sides(row)))
        alike.setdefault((*named, *(row[label] for label in _COSTS)), []).append(row)
    return [
        {**same[0], "sides": _sides(same[0]), "count": len(same), "group": _shared([row["group"] for row in same])}
        for same in alike.values()
    ]


def _shared(paths: Sequence[str]) -> str:
    """The path, with a `*` where they differ."""
    names = zip(*(path.split(".") for path in paths), strict=True)
    return ".".join(each[0] if len(set(each)) == 1 else "*" for each in names)


def _pattern(path: str) -> str:
    """`h.0.attn` -> `h.*.attn`; a number at the end stays."""
    *above, last = path.split(".")
    return ".".join([*("*" if name.isdigit() else name for name in above), last])


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
        signs = Text(_signs(kind), style=WARNING)
        if narrow:
            sides = f"\n{arrow} ".join(_broken(side, console) for side in kind["sides"]).replace("\n", "\n  ")
            table.add_row(Text.assemble(_broken(kind["group"], console), (f"\n  {sides}", "dim")), *cells, signs)
        else:
            where = Text(f" {arrow} ".join(kind["sides"]))
            table.add_row(Text(_broken(kind["group"], console)), *cells, where, signs)
    console.print(table)
    if len(kinds) > _ROWS:
        console.print(Text(_MORE.format(sum(kind["count"] for kind in kinds[_ROWS:])), style="dim"))
    legend = "parameters and MACs (of a sample): how many fewer when one unit goes; [dimension]; +more such places"
    parts.line(console, "", Text(legend, style="dim"))


def _sides(row: Mapping[str, Any]) -> list[str]:
    """`weight[0] +1`, `..fc2.weight[1]`: the first place on each side, and how many more; without the group's path."""
    sides = []
    for side in ("made in", "taken in"):
        if row[side]:
            first, *more = row[side].split(", ")
            sides.append(_relative(first, row["group"]) + (f" +{len(more)}" if more else ""))
    return sides


def _relative(tensor: str, group: str) -> str:
    """`h.0.mlp.fc2.weight[1]` beside `h.0.mlp.fc1` is `..fc2.weight[1]`."""
    own, names = group.partition("#")[0].split("."), tensor.split(".")
    same = next((at for at, (one, other) in enumerate(zip(own, names, strict=False)) if one != other), len(own))
    if same == len(own) and len(names) > same:
        return ".".join(names[same:])
    return (".." if same else "") + ".".join(names[same:])


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
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        if kind[column]:
            groups.setdefault(kind[column], []).append(kind["group"])
    return groups


def _computed(text: str) -> str:
    """`statistics in h.0.norm, statistics in h.1.norm` -> `statistics in h.*.norm`."""
    modules: dict[str, dict[str, None]] = {}  # what is computed -> where
    for each in text.split(", "):
        what, _, module = each.partition(" in ")
        modules.setdefault(what, {})[_pattern(module)] = None
    return "; ".join(f"{what} in {_enumerated(paths)}" for what, paths in modules.items())


def _first_clauses(reason: str) -> str:
    clauses = reason.split("; ")
    return "; ".join(clauses[:_CLAUSES]) + ("; ..." if len(clauses) > _CLAUSES else "")


def _explain(console: Console, sign: str, meaning: str, notes: Sequence[tuple[Sequence[str], str]]) -> None:
    """A line for each note: the groups, and what is so of them."""
    if not notes:
        return
    parts.line(console, f"{sign} ", meaning, WARNING)
    for names, note in notes[:_NOTES]:
        text = Text.assemble(_enumerated(names), (f": {note}" if note else "", "dim"))
        hanging(console, "  ", text)
    if len(notes) > _NOTES:
        console.print(Text(f"  {_MORE.format(len(notes) - _NOTES)}", style="dim"))


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
        more = plural(len(rows) - len(stuck), "dimension")
        others = f"{'and ' * bool(stuck)}{more} along which groups hold all parameters (--json)"
        parts.line(console, "", Text(others, style="dim"))


def _coverage(console: Console, details: GroupsDetails) -> None:
    coverage = details["coverage"]
    exact, reasons = coverage["share_without_shifts"], coverage["reasons"]
    beside = "" if exact == coverage["share"] else f"; those without ! hold {exact:.2%}"
    console.print()
    text = f"groups hold {coverage['share']:.2%} of {plural(coverage['parameters'], 'parameter')}{beside}"
    parts.line(console, "coverage", f"  {text}", "bold")
    for reason, each in list(reasons.items())[:_NOTES]:
        parts.line(console, f"{each['share']:>8.2%}  stay: ", reason)
    if len(reasons) > _NOTES:
        console.print(Text(_MORE.format(len(reasons) - _NOTES), style="dim"))
    unknown = details["unknown_operators"]
    if unknown:
        names = _enumerated(
            f"{name} ({plural(count, 'time')})" if count > 1 else name for name, count in unknown.items()
        )
        parts.line(console, "note: ", f"operators that are not known: {names}", WARNING)


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
