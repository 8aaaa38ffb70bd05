"""Tables that are no report: the runs that there are, and the strategies that a YAML file can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render.console import BAD, GOOD, NAME, WARNING, console, hanging
from modelopt_cli.core.readable import duration, size
from modelopt_cli.core.text import printable

if TYPE_CHECKING:
    from modelopt_cli.results.listing import RunSummary

_STATUS = {"completed": GOOD, "running": NAME, "interrupted": WARNING, "failed": BAD}
_LEAST = 24  # letters of a result that stand beside the other columns, not below them
_COLUMNS = ("run", "status", "started", "result", "took", "workflow", "size")  # what is left out first stands last
_ORDER = ("run", "status", "workflow", "started", "took", "size", "result")
_RIGHT = ("took", "size")


def strategies(families: Mapping[str, Mapping[str, str]]) -> None:
    """Families of strategies with a line each."""
    screen = console()
    for family, members in families.items():
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=True)
        widest = max((len(name) for each in families.values() for name in each), default=0) + 2
        table.add_column(style=NAME, no_wrap=True, min_width=widest)
        table.add_column()
        for name, summary in members.items():
            table.add_row(f"  {name}", Text(summary))
        screen.print(Text(family, style="bold"))
        screen.print(table)


def templates(groups: Mapping[str, Mapping[str, str]]) -> None:
    """Templates with a line each, grouped by what they start from; then what to do with one."""
    strategies(groups)
    screen = console()
    screen.print()
    for line in ("modelopt init csv > experiment.yaml", "modelopt init script --to my-search"):
        screen.print(Text(f"  {line}"), soft_wrap=True)


def runs(summaries: Sequence[RunSummary], root: Path) -> None:
    """A row a run, with its result or why it failed.

    A narrow window has fewer columns, then the result below the run; a date or a value is never cut.
    """
    screen = console()
    if not summaries:
        screen.print(f"no runs under {root}; start one with: modelopt tune FILE")
        return
    cells = [_cells(run) for run in summaries]
    for amount in range(len(_COLUMNS), 3, -1):
        names = [name for name in _ORDER if name in _COLUMNS[:amount]]
        taken = {name: max(len(name), *(len(row[name]) for row in cells)) for name in names if name != "result"}
        room = screen.width - sum(taken.values()) - 3 * len(taken)
        results = [len(row["result"]) for row in cells if row["status"] != "failed"]  # reasons may go on below
        reasons = [_LEAST for row in cells if row["status"] == "failed"]
        if room >= max([*results, *reasons, len("result")]):
            screen.print(_table_of(cells, names))
            return
    for row in cells:
        line = Text.assemble(row["run"], "  ", (row["status"], _STATUS.get(row["status"], "")))
        screen.print(line, soft_wrap=True)
        hanging(screen, "  ", row["started"])
        hanging(screen, "  ", row["result"])


def _cells(run: RunSummary) -> dict[str, str]:
    return {
        "run": f"{run.name}/{run.number}",
        "status": run.status,
        "workflow": run.workflow,
        "started": run.started[:16].replace("T", " "),
        "took": duration(run.seconds),
        "size": size(run.bytes),
        "result": printable(run.reason.partition("\n")[0]) if run.status == "failed" else run.best,
    }


def _table_of(cells: Sequence[Mapping[str, str]], names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name != "result", justify="right" if name in _RIGHT else "left")
    for row in cells:
        status = _STATUS.get(row["status"], "")
        table.add_row(*(Text(row[name], style=status if name == "status" else "") for name in names))
    return table
