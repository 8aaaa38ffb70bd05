"""Progress on standard error: live on a terminal, a line a stage and a trial elsewhere, warnings alone when quiet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from modelopt_cli.cli.render import live
from modelopt_cli.cli.render.console import WARNING, console
from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import number, short
from modelopt_cli.core.references import redacted
from modelopt_cli.experiment.expected_metrics import SAMPLES
from modelopt_cli.tuning.trials.trial import State, Trial
from modelopt_cli.workflows.shared.context import (
    Counted,
    EpochEnded,
    Message,
    SearchStarted,
    StageBegun,
    TrialChanged,
)
from modelopt_cli.workflows.shared.context import Progress as Event
from modelopt_cli.workflows.shared.state_of_work import StateOfWork


@contextlib.contextmanager
def shown(*, quiet: bool, brief: bool = False) -> Iterator[Callable[[Event], None]]:
    """What takes a workflow's events: a live display on a terminal, plain lines elsewhere, warnings if quiet.

    `brief`: of work that mostly takes a second or two, so that without a terminal nothing is said at once.
    """
    screen = console(stderr=True)
    if quiet:
        display: QuietProgress = QuietProgress(screen)
    elif screen.is_terminal:
        display = LiveProgress(screen)
    else:
        display = PlainProgress(screen, brief=brief)
    with display:
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
            self._console.print(Text.assemble(("warning: ", WARNING), event.text), soft_wrap=True)


class PlainProgress(QuietProgress):
    """A line for each stage and each trial that ends, for epochs at most one a second.

    After `silence` seconds without a line one says what is still being done, and how long it will still take.
    """

    def __init__(self, console: Console, silence: float = 30.0, *, brief: bool = False) -> None:
        super().__init__(console)
        self._silence, self._brief = silence, brief
        self._state = StateOfWork()
        self._spoke = time.monotonic()
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._beating, daemon=True)
        self._shown = 0.0
        self._ended = 0
        self._foretold = time.monotonic()  # when it was last said how long it will take

    def take(self, event: Event) -> None:
        """Show an event."""
        self._state.take(event)
        match event:
            case Message(text, False):
                self._line(text)
            case StageBegun(text, _):
                if not self._brief:
                    self._line(text)
            case SearchStarted(name, planned, finished, goals):
                self._ended = finished
                what = "open number of trials" if planned is None else live.things(planned, "trial")
                before = f", {finished} finished before" if finished else ""
                self._line(f"{name}: {what}{before}; {', '.join(goals)}")
            case TrialChanged(trial, best) if trial.state.finished:
                self._ended += 1
                goals = self._state.search.goals if self._state.search is not None else ()
                self._line(f"{describe(trial, goals)}{_best(best, goals)}{self._progress()}")
            case EpochEnded(step, total, metrics, doing) if step == total or time.monotonic() - self._shown > 1:
                self._shown = time.monotonic()
                self._line(
                    f"{_of(step, total)}  {doing}{'  ' if doing else ''}"
                    + "  ".join(f"{name} {number(value)}" for name, value in metrics.items())
                    + self._progress()
                )
            case Counted():
                pass
            case _:
                super().take(event)

    def __enter__(self) -> Self:
        self._beat.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()

    def _progress(self) -> str:
        """How far a search is and how long the run will still take, said at most every `silence` seconds."""
        if time.monotonic() - self._foretold < self._silence:
            return ""
        self._foretold = time.monotonic()
        search = self._state.search
        parts = []
        if search is not None and search.planned is not None:
            parts.append(f"{self._ended} of {search.planned} trials")
        parts.append(live.time_left(self._state))
        return f"  [{', '.join(parts)}]"

    def _beating(self) -> None:
        while not self._over.wait(max(0.05, self._spoke + self._silence - time.monotonic())):
            if time.monotonic() - self._spoke >= self._silence:
                with contextlib.suppress(OSError, ValueError):  # standard error is closed: the run matters more
                    self._line(self._still())

    def _still(self) -> str:
        """What is being done, for how long, how far it is, and how long the run will still take."""
        state = self._state
        parts = [*live.counted(state), live.time_left(state)]
        self._foretold = time.monotonic()
        return f"still {state.stage} ({state.stage_seconds:.0f} s): {', '.join(parts)}"

    def _line(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(Text(text), soft_wrap=True)


class LiveProgress(QuietProgress):
    """A bar and the time left; of a search the best so far and the last trials, else the stages and the metrics."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._state = StateOfWork()
        self._trials = live.Trials()
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._render, vertical_overflow="crop"
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.__exit__(None, None, None)

    def take(self, event: Event) -> None:
        """Show an event."""
        self._state.take(event)
        match event:
            case Message(text, warning):
                self._console.print(Text.assemble(("warning: " if warning else "", WARNING), text), soft_wrap=True)
            case SearchStarted():
                self._trials = live.Trials(event.goals)
            case TrialChanged(trial, best):
                self._trials.change(trial, best)
            case _:
                pass

    def _render(self) -> RenderableType:
        search, state = self._state.search, self._state
        if search is None:
            return live.course(state, self._console)
        left = live.left_text(state.left())
        planned = search.planned
        return live.search(
            self._trials, search.name, planned, search.finished, state.stage_seconds, left, console=self._console
        )


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
