"""What people see: results on standard output, progress and errors on standard error. One file a kind of report.

`report` chooses the form. Nothing outside this folder imports rich.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render.console import console
from modelopt_cli.core.text import message_lines

if TYPE_CHECKING:
    from modelopt_cli.results.listing import RunSummary
    from modelopt_cli.results.report import GateResult, Report
    from modelopt_cli.workflows.shared.context import Progress

_CELL = 60  # letters of a reason in the table of runs
_STATUS = {"completed": "green", "running": "cyan", "interrupted": "yellow", "failed": "red"}


def error(message: str) -> None:
    """One clear message on standard error."""
    text = Text.assemble(("error: ", "bold red"), message_lines(message))
    console(stderr=True, soft_wrap=True).print(text)


def report(report: Report, *, quiet: bool) -> None:
    """A report on standard output, in the form of its workflow."""
    from modelopt_cli.cli.render.distillation import render_distilling
    from modelopt_cli.cli.render.export import render_exported
    from modelopt_cli.cli.render.groups import render_groups
    from modelopt_cli.cli.render.inspection import render_inspected
    from modelopt_cli.cli.render.pruning import render_pruning
    from modelopt_cli.cli.render.replay import render_replayed
    from modelopt_cli.cli.render.search import render_report
    from modelopt_cli.cli.render.units import render_slimming
    from modelopt_cli.cli.render.weights_file import render_pruned

    pruned = render_slimming if "costs" in report.tables else render_pruning
    forms = {
        "prune": pruned if "stages" in report.tables else render_pruned,
        "inspect": render_groups if "groups" in report.tables else render_inspected,
        "export": render_exported,
        "distill": render_distilling,
        "replay": render_replayed,
    }
    bare = bool(report.plan) or report.status != "completed"  # a plan, or what there is so far
    form = render_report if bare else forms.get(report.workflow, render_report)
    form(console(), report, quiet=quiet)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What takes a workflow's events: a live display on a terminal, plain lines elsewhere, warnings if quiet."""
    from modelopt_cli.cli.render.live import LiveProgress, PlainProgress, QuietProgress

    screen = console(stderr=True)
    shown = QuietProgress(screen) if quiet else LiveProgress(screen) if screen.is_terminal else PlainProgress(screen)
    with shown:
        yield shown.take


def gates(console: Console, found: Sequence[GateResult]) -> None:
    """A line a gate: met or not, by how much."""
    good, bad = ("✓", "✗") if console.encoding.lower().startswith("utf") else ("ok", "NOT MET")
    for gate in found:
        mark = Text(good, style="green") if gate.met else Text(bad, style="bold red")
        value = "no such metric" if gate.value is None else f"value {gate.value:.6g}, margin {gate.margin:+.6g}"
        console.print(Text.assemble("gate ", mark, f" {gate.condition}  ({value})"))


def positive(console: Console, report: Report) -> None:
    """Which class the metrics of two classes are about."""
    name = report.details.get("positive_class")
    if name is not None:
        console.print(Text.assemble(("positive class ", "dim"), str(name)), soft_wrap=True)


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


def runs(found: Sequence[RunSummary], root: Path) -> None:
    """The table of runs."""
    screen = console()
    if not found:
        screen.print(f"no runs under {root}; start one with: modelopt tune FILE")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "status", "workflow", "started"):
        table.add_column(name, no_wrap=name != "started")
    for name in ("took", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("result")
    for run in found:
        table.add_row(
            f"{run.name}/{run.number}",
            Text(run.status, style=_STATUS.get(run.status, "")),
            run.workflow,
            run.started[:16].replace("T", " "),
            duration(run.seconds),
            size(run.bytes),
            Text(_short(run.reason), style="red") if run.status == "failed" else run.best,
        )
    screen.print(table)


def _short(reason: str) -> str:
    """The beginning of a reason, for a cell; `modelopt show` has the whole."""
    line = reason.partition("\n")[0]
    return line if len(line) <= _CELL else line[: _CELL - 3] + "..."


def size(count: float | None) -> str:
    """Bytes as text, in powers of 1000."""
    if count is None:
        return "unknown"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float | None) -> str:
    """Seconds as text."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: Any) -> str:
    """A cell's value as text: four significant digits; sections by their type."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and isinstance(value.get("type"), str) and len(value) == 1:
        return str(value["type"])
    return str(value)
