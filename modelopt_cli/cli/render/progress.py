"""Progress on standard error: live on a terminal, a line a trial elsewhere, warnings alone when quiet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from modelopt_cli.cli.render.console import console
from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import number, short
from modelopt_cli.core.references import redacted
from modelopt_cli.experiment.expected_metrics import SAMPLES
from modelopt_cli.tuning.trials.trial import State, Trial
from modelopt_cli.workflows.shared.context import EpochEnded, Message, SearchStarted, StageBegun, TrialChanged
from modelopt_cli.workflows.shared.context import Progress as Event

_STYLE = {
    "completed": "green",
    "stopped": "yellow",
    "failed": "red",
    "running": "cyan",
    "paused": "cyan",
    "queued": "dim",
}
_LAST = 6  # trials shown below the bar


@contextlib.contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[Event], None]]:
    """What takes a workflow's events: a live display on a terminal, plain lines elsewhere, warnings if quiet."""
    screen = console(stderr=True)
    form = QuietProgress if quiet else LiveProgress if screen.is_terminal else PlainProgress
    with form(screen) as display:
        yield display.take


class QuietProgress:
    """Says nothing but warnings."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def take(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Message) and event.warning:
            self._console.print(Text.assemble(("warning: ", "yellow"), event.text), soft_wrap=True)


class PlainProgress(QuietProgress):
    """A line for each stage and each trial that ends, for epochs at most one a second.

    After `silence` seconds without a line one says what is still being done.
    """

    def __init__(self, console: Console, silence: float = 30.0) -> None:
        super().__init__(console)
        self._silence = silence
        self._doing, self._since, self._spoke = "at work", time.monotonic(), time.monotonic()
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._beating, daemon=True)
        self._goals: tuple[str, ...] = ()
        self._planned: int | None = None
        self._shown = 0.0

    def take(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Message(text, False):
                self._line(text)
            case StageBegun(text):
                self._doing, self._since = text, time.monotonic()
                self._line(text)
            case SearchStarted(name, planned, finished, goals):
                self._goals, self._planned = goals, planned
                self._doing, self._since = "searching", time.monotonic()
                self._line(
                    f"{name}: {planned or 'open number of'} trials, {finished} finished before; {', '.join(goals)}"
                )
            case TrialChanged(trial, best) if trial.state.finished:
                self._line(f"{describe(trial, self._goals)}{_best(best, self._goals)}")
            case EpochEnded(step, total, metrics, doing) if step == total or time.monotonic() - self._shown > 1:
                self._shown = time.monotonic()
                self._line(
                    f"{_of(step, total)}  {doing}{'  ' if doing else ''}"
                    + "  ".join(f"{name} {number(value)}" for name, value in metrics.items())
                )
            case _:
                super().take(event)

    def __enter__(self) -> Self:
        self._beat.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()

    def _beating(self) -> None:
        while not self._over.wait(max(0.05, self._spoke + self._silence - time.monotonic())):
            if time.monotonic() - self._spoke >= self._silence:
                with contextlib.suppress(OSError, ValueError):  # standard error is closed: the run matters more
                    self._line(f"still {self._doing} ({time.monotonic() - self._since:.0f} s)")

    def _line(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(Text(text), soft_wrap=True)


class LiveProgress(QuietProgress):
    """A bar, the best so far, and the last trials."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._goals: tuple[str, ...] = ()
        self._last: dict[int, Trial] = {}
        self._best: Trial | None = None
        self._line = ""
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def take(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Message(text, warning):
                self._console.print(Text.assemble(("warning: " if warning else "", "yellow"), text), soft_wrap=True)
            case SearchStarted(name, planned, finished, goals):
                self._goals = goals
                self._bar.update(self._task, description=name, total=planned, completed=finished)
            case TrialChanged(trial, best):
                self._last[trial.number], self._best = trial, best
                if trial.state.finished:
                    self._bar.advance(self._task)
            case StageBegun(text):
                self._bar.update(self._task, description=text)
            case EpochEnded(step, total, metrics, doing):
                self._bar.update(self._task, description=doing or "training", total=total, completed=step)
                self._line = "  ".join(f"{name} {number(value)}" for name, value in metrics.items())

    def _render(self) -> RenderableType:
        rows: list[RenderableType] = [self._bar]
        if self._line:
            rows.append(Text(self._line, no_wrap=True, overflow="ellipsis"))
        for trial in sorted(self._last.values(), key=lambda trial: trial.number)[-_LAST:]:
            rows.append(
                Text(describe(trial, self._goals), style=_STYLE[str(trial.state)], no_wrap=True, overflow="ellipsis")
            )
        if self._best is not None:
            best = Text.assemble(("best   ", "bold"), describe(self._best, self._goals))
            best.no_wrap, best.overflow = True, "ellipsis"
            rows.append(best)
        return Group(*rows)


def describe(trial: Trial, goals: tuple[str, ...]) -> str:
    """A trial in one line: number, state, objectives, settings."""
    values = trial.metrics or (trial.curve[-1].metrics if trial.curve else {})
    names = [Goal.parse(goal).metric for goal in goals]
    shown = [f"{name} {number(values[name])}" for name in names if name in values]
    if trial.state is State.FAILED:
        shown = [trial.reason]
    elif trial.state is State.STOPPED:
        shown.append(f"({trial.reason})")
    steps = f" step {trial.curve[-1].step}" if trial.state is State.RUNNING and trial.curve else ""
    if SAMPLES in values and trial.state is not State.COMPLETED:  # what it tells is about so many
        steps = f" at {values[SAMPLES]:,.0f} samples"
    settings = "  ".join(f"{short(path)}={number(value)}" for path, value in trial.params.items())
    return redacted(f"trial {trial.number:<4} {trial.state}{steps}  {'  '.join(shown)}  {settings}")


def _best(best: Trial | None, goals: tuple[str, ...]) -> str:
    if best is None or not goals:
        return ""
    name = Goal.parse(goals[0]).metric
    return f"  [best {number(best.metrics.get(name))} in trial {best.number}]"


def _of(step: int, total: int | None) -> str:
    return f"step {step}" + ("" if total is None else f" of {total}")
