"""What a run under way looks like on a terminal: a bar, the time left, stages, trials and the best so far.

The live display of a command and `modelopt watch` show the same.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render.console import BAD, GOOD, NAME, WARNING
from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.readable import number, short
from modelopt_cli.core.references import redacted
from modelopt_cli.core.text import one_line
from modelopt_cli.tuning.trials.trial import State, Trial
from modelopt_cli.workflows.shared.state_of_work import StateOfWork
from modelopt_cli.workflows.shared.time_left import Estimate

STYLE = {
    State.COMPLETED: GOOD,
    State.STOPPED: WARNING,
    State.FAILED: BAD,
    State.RUNNING: NAME,
    State.PAUSED: NAME,
    State.QUEUED: "dim",
}
_LAST = 6  # trials that are shown, those that run first
STAGES = 6  # that are over, of those that are shown
_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDEST = 40  # a sparkline


class Trials:
    """The trials of a search as they are shown: the last ones, the best, and how the best came about."""

    def __init__(self, goals: Sequence[str] = ()) -> None:
        self.goals = tuple(goals)
        self.best: Trial | None = None
        self.history: list[float] = []  # the first objective's best value after each trial that ended
        self.states: Tally[State] = Tally()
        self.reasons: Tally[str] = Tally()  # of failures
        self._known: dict[int, Trial] = {}
        self._ends: list[int] = []

    def change(self, trial: Trial, best: Trial | None) -> None:
        """A trial is as it is now, and this one is the best that has ended."""
        before = self._known.get(trial.number)
        if before is not None:
            self.states[before.state] -= 1
        self.states[trial.state] += 1
        self._known[trial.number], self.best = trial, best
        if trial.state.finished:
            if trial.number not in self._ends:
                self._ends.append(trial.number)
            if trial.state is State.FAILED:
                self.reasons[one_line(redacted(trial.reason))] += 1
            value = None if best is None else self.value(best)
            if value is not None:
                self.history.append(value)

    @property
    def ended(self) -> int:
        """How many have ended."""
        return len(self._ends)

    def running(self) -> list[Trial]:
        """Those under way, by number."""
        return [trial for _, trial in sorted(self._known.items()) if trial.state is State.RUNNING]

    def last(self, count: int) -> list[Trial]:
        """Those that have ended last, the last one last."""
        return [self._known[at] for at in self._ends[-count:]] if count > 0 else []

    def value(self, trial: Trial) -> float | None:
        """Its first objective: in the end, or as it was last reported."""
        if not self.goals:
            return None
        values = trial.metrics or (trial.curve[-1].metrics if trial.curve else {})
        return values.get(Goal.parse(self.goals[0]).metric)


def search(
    trials: Trials,
    name: str,
    planned: int | None,
    before: int,
    seconds: float,
    left: str,
    *,
    console: Console,
    timed: bool = True,
) -> RenderableType:
    """A search under way. `before`: trials that had ended before, and are none of `trials`. `left`: the time left.

    `timed`: `seconds` are said, too.
    """
    ended = trials.ended + before
    how_many = things(ended, "trial") if planned is None else f"{ended} of {things(planned, 'trial')}"
    rows: list[RenderableType] = [
        bar(name, ended, planned, " · ".join(filter(None, [how_many, period(seconds) if timed else "", left])), console)
    ]
    rows.append(_states(trials))
    if trials.best is not None:
        rows += _best(trials, console)
    rows.append(Text(""))
    rows.append(_table(trials, console))
    if sum(trials.reasons.values()) > 1:
        rows.append(_failures(trials))
    return Group(*rows)


def course(state: StateOfWork, console: Console) -> RenderableType:
    """A run that is no search, or a stage before or after a search: stages that are over, the one under way."""
    rows: list[RenderableType] = []
    over = state.stages[-STAGES:]
    if over:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_column(no_wrap=True, justify="right")
        for text, seconds in over:
            grid.add_row(Text(mark("✓", "+", console), style=GOOD), Text(text, style="dim"), _dim(period(seconds)))
        rows.append(grid)
    steps = ""
    step, total = state.step, state.total
    if step is not None:
        steps = f"step {step}" if total is None else f"{step} of {things(total, 'step')}"
    seed = f"seed {state.seed.seed} ({state.seed.number} of {state.seed.of}): " if state.seed is not None else ""
    text = " · ".join(filter(None, [steps, period(state.seconds), time_left(state)]))
    rows.append(bar(seed + state.stage, step or 0, total, text, console))
    counters = counted(state)
    if counters:
        rows.append(_one_line(Text.assemble("  ", (" · ".join(counters), "dim"))))
    if state.metrics:
        text = "  ".join(f"{name} {number(value)}" for name, value in state.metrics.items())
        rows.append(_one_line(Text(f"  {text}")))
    return Group(*rows)


def bar(name: str, done: float, of: float | None, text: str, console: Console) -> RenderableType:
    """A name, how far it is as a bar, and in words; where all of that does not fit, the words go below."""
    words = Text.assemble((name, "bold"), "  ", text)
    if console.width < words.cell_len + 14:
        head = _one_line(Text(name, style="bold"))
        below = _one_line(Text(text))
        line = Table.grid(expand=True)
        line.add_column(ratio=1)
        line.add_row(_progress_bar(done, of))
        return Group(head, line, below)
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(Text(name, style="bold"), _progress_bar(done, of), Text(text))
    return grid


def _progress_bar(done: float, of: float | None) -> ProgressBar:
    return ProgressBar(total=of or None, completed=done, pulse=not of, style="bright_black", complete_style=NAME)


def _states(trials: Trials) -> Text:
    """How many trials there are of each state."""
    text = Text()
    for state in (State.RUNNING, State.PAUSED, State.QUEUED, State.COMPLETED, State.STOPPED, State.FAILED):
        if trials.states[state]:
            text.append(" · " if text.plain else "", style="dim")
            text.append(f"{trials.states[state]} {state}", style=STYLE[state])
    return _one_line(text)


def _best(trials: Trials, console: Console) -> list[RenderableType]:
    """The best so far and its settings; how it grew."""
    best = trials.best
    assert best is not None
    values = [
        (Goal.parse(goal).metric, best.metrics[Goal.parse(goal).metric])
        for goal in trials.goals
        if Goal.parse(goal).metric in best.metrics
    ]
    text = Text.assemble(("best  ", "bold"))
    text.append("  ".join(f"{name} {number(value)}" for name, value in values), style=f"bold {GOOD}")
    text.append(f"  trial {best.number}", style="dim")
    rows: list[RenderableType] = [_one_line(text)]
    settings = _settings(best)
    if settings:
        rows.append(_one_line(Text(f"      {settings}")))
    if len(set(trials.history)) > 1 and not _plain(console):
        first, last = number(trials.history[0]), number(trials.history[-1])
        line = Text.assemble((f"      {first} ", "dim"), (sparkline(trials.history), NAME), (f" {last}", "dim"))
        rows.append(_one_line(line))
    return rows


def _table(trials: Trials, console: Console) -> RenderableType:
    """The running trials, then the last ones that ended."""
    running = trials.running()[-_LAST:]
    shown = [*trials.last(_LAST - len(running)), *running]
    cells = [_cells(trial, trials) for trial in shown]
    grid = Table.grid(padding=(0, 2))
    for column in range(3):
        width = max((each[column].cell_len for each in cells), default=0)
        grid.add_column(no_wrap=True, justify="left" if column else "right", min_width=width)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for each in cells:
        grid.add_row(*each)
    return grid


def _cells(trial: Trial, trials: Trials) -> tuple[Text, Text, Text, Text]:
    """Number, state, value, and what there is to say of a trial: its settings, or why it ended."""
    value = trials.value(trial)
    reached, about, state = "–" if value is None else number(value), _settings(trial), str(trial.state)
    if trial.state is State.FAILED:
        reached, about = "–", one_line(redacted(trial.reason))
    elif trial.state is State.STOPPED:
        about = one_line(redacted(f"step {trial.step}, {trial.reason}"))
    elif trial.state is State.RUNNING and trial.step:
        state = f"step {trial.step}" + (f" of {trial.total}" if trial.total else "")
    style = STYLE[trial.state]
    return Text(str(trial.number), style="dim"), Text(state, style=style), Text(reached), Text(about, style="dim")


def _failures(trials: Trials) -> Text:
    """The commonest reason why trials failed."""
    reason, times = trials.reasons.most_common(1)[0]
    others = len(trials.reasons) - 1
    more = f" (and {things(others, 'other reason')})" if others else ""
    return _one_line(Text.assemble(("failed ", BAD), (f"{times} × {reason}{more}", "dim")))


def _settings(trial: Trial) -> str:
    return one_line(
        redacted("  ".join(f"{short(path, trial.params)}={number(value)}" for path, value in trial.params.items()))
    )


def sparkline(values: Sequence[float]) -> str:
    """The values as blocks of eight heights; of many, evenly chosen ones, the last one always."""
    if len(values) > _WIDEST:
        values = [values[round(at * (len(values) - 1) / (_WIDEST - 1))] for at in range(_WIDEST)]
    low, high = min(values), max(values)
    span = high - low
    return "".join(_BLOCKS[round((value - low) / span * 7) if span > 0 else 0] for value in values)


# In words


def things(count: int, what: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def period(seconds: float) -> str:
    """Time that has passed: `25 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def about(seconds: float) -> str:
    """Time that is foreseen, no finer than it is known: `a few seconds`, `25 s`, `4 min`, `1 h 20 min`."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 57.5:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 57.5 * 60:
        return f"{max(1, round(seconds / 60))} min"
    tens = round(seconds / 600)
    hours, rest = divmod(tens, 6)
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return f"{hours} h" + (f" {rest}0 min" if rest and hours < 10 else "")


def left_text(estimate: Estimate | None) -> str:
    """`about 4 min left`."""
    if estimate is None:
        return "time left unknown"
    text = about(estimate.seconds)
    if text.startswith("a "):
        return f"{text} left"
    return f"{'at most' if estimate.at_most else 'about'} {text} left"


def time_left(state: StateOfWork) -> str:
    """Of the whole run; where that is unknown, of what is counted."""
    estimate = state.left()
    counted_left = state.counted_left()
    if estimate is None and counted_left is not None:
        return f"about {about(counted_left)} more for these, time left unknown"
    return left_text(estimate)


def counted(state: StateOfWork) -> list[str]:
    """What is counted in the stage under way, the outermost first."""
    return [so_many(each.done, each.of, each.what) for each in state.counters[:2]]


def so_many(done: int, of: int | None, what: str) -> str:
    """`3 of 40 batches`."""
    return f"{done:,} {what}" if of is None else f"{done:,} of {of:,} {what}"


def mark(sign: str, plain: str, console: Console) -> str:
    """The sign, or what stands for it where the terminal's encoding does not have it."""
    return plain if _plain(console) else sign


def _plain(console: Console) -> bool:
    return not console.encoding.lower().startswith("utf")


def _dim(text: str) -> Text:
    return Text(text, style="dim")


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
