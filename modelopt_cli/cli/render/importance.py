"""Which parameters a search's result depended on, in a line for each objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from modelopt_cli.results.report import Report

_LEAST = 0.01  # share of the variance from which a parameter is named


def importances(console: Console, report: Report) -> None:
    """`lr 71% ± 4, type 12% ± 2, 3 others below 1%`; or why nothing can be said."""
    table = report.tables.get("importance")
    rows = [] if table is None else table.records()
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    for metric in metrics:
        of = f"importance for {metric}: " if len(metrics) > 1 else "importance: "
        named = _named([row for row in rows if row["metric"] == metric])
        console.print(Text.assemble((of, "bold"), named), soft_wrap=True)
    for metric, reason in report.details.get("importance_missing", {}).items():
        console.print(Text(f"importance for {metric}: {reason}", style="dim"), soft_wrap=True)


def _named(rows: Sequence[dict[str, Any]]) -> str:
    paths = [row["path"] for row in rows]
    shown = [
        f"{short(row['path'], paths)} {row['importance']:.0%} ± {100 * row['deviation']:.0f}"
        for row in rows
        if row["importance"] is not None and row["importance"] >= _LEAST
    ]
    left = len(rows) - len(shown)
    return ", ".join([*shown, *([f"{left} other{'s' * (left > 1)} below {_LEAST:.0%}"] if left else [])])


def short(path: str, paths: Sequence[str]) -> str:
    """The last name of a path; more of it where another path ends in the same, or it is a place in a list."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        tail = ".".join(parts[-count:])
        others = sum(other != path and f".{other}".endswith(f".{tail}") for other in paths)
        if not others and not parts[-count].isdigit():
            return tail
    return path
