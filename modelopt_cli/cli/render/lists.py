"""Tables that are no report: the runs that there are, and the strategies that a YAML file can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render.console import console
from modelopt_cli.core.readable import duration, size

if TYPE_CHECKING:
    from modelopt_cli.results.listing import RunSummary

_CELL = 60  # letters of a reason
_STATUS = {"completed": "green", "running": "cyan", "interrupted": "yellow", "failed": "red"}


def strategies(families: Mapping[str, Mapping[str, str]]) -> None:
    """Families of strategies with a line each."""
    screen = console()
    for family, members in families.items():
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2), pad_edge=False)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, summary in members.items():
            table.add_row(name, Text(summary))
        screen.print(Text(family, style="bold"))
        screen.print(table)


def runs(summaries: Sequence[RunSummary], root: Path) -> None:
    """A row a run, with its result or why it failed."""
    screen = console()
    if not summaries:
        screen.print(f"no runs under {root}; start one with: modelopt tune FILE")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "status", "workflow", "started"):
        table.add_column(name, no_wrap=name != "started")
    for name in ("took", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result")
    for run in summaries:
        table.add_row(
            f"{run.name}/{run.number}",
            Text(run.status, style=_STATUS.get(run.status, "")),
            run.workflow,
            run.started[:16].replace("T", " "),
            duration(run.seconds),
            size(run.bytes),
            Text(_beginning(run.reason), style="red") if run.status == "failed" else run.best,
        )
    screen.print(table)


def _beginning(reason: str) -> str:
    """Of a reason, for a cell; `modelopt show` has the whole."""
    first = reason.partition("\n")[0]
    return first if len(first) <= _CELL else first[: _CELL - 3] + "..."
