"""`modelopt watch`: a run of another process, live on a terminal, a line on each change elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from modelopt_cli.cli.render import live
from modelopt_cli.cli.render.console import BAD, GOOD, NAME, WARNING, console
from modelopt_cli.cli.render.progress import describe
from modelopt_cli.core.readable import number
from modelopt_cli.core.references import redacted
from modelopt_cli.core.text import one_line
from modelopt_cli.workflows.watch.watcher import Snapshot, best_so_far

_STATUS = {"running": NAME, "completed": GOOD, "interrupted": WARNING, "failed": BAD, "killed": BAD}
_SILENT = 60.0  # seconds after which it is said since when nothing was written


@contextmanager
def shown() -> Iterator[Callable[[Snapshot], None]]:
    """What takes snapshots: a live view on a terminal, whose last state stays; lines elsewhere."""
    screen = console()
    if not screen.is_terminal:
        yield _Lines(screen).take
        return
    current: list[RenderableType] = [Text("")]
    with Live(
        console=screen, refresh_per_second=4, get_renderable=lambda: current[0], vertical_overflow="crop"
    ) as display:

        def take(snapshot: Snapshot) -> None:
            current[0] = view(snapshot, screen)
            display.refresh()

        yield take


def view(snapshot: Snapshot, screen: Console) -> RenderableType:
    """All that is known of the run, on one screen."""
    rows: list[RenderableType] = [_head(snapshot)]
    if snapshot.trials:
        rows += [Text(""), _search(snapshot, screen)]
    if snapshot.progress is not None and not (snapshot.trials and snapshot.searching):
        rows += [Text(""), _stages(snapshot, screen)]
    elif snapshot.report is not None and not snapshot.trials:
        rows.append(_one_line(_metrics(dict(snapshot.report.metrics))))
    rows += [_one_line(Text(text, style="dim")) for text in _remarks(snapshot)]
    return Group(*rows)


def _head(snapshot: Snapshot) -> Text:
    workflow = f"{snapshot.workflow} " if snapshot.workflow else ""
    text = Text.assemble((f"{snapshot.name}  ", "bold"), (workflow, "dim"), (snapshot.status, _STATUS[snapshot.status]))
    if snapshot.seconds is not None:
        text.append(f" · {live.period(snapshot.seconds)}", style="dim")
    return _one_line(text)


def _search(snapshot: Snapshot, screen: Console) -> RenderableType:
    trials = trials_of(snapshot)
    left = ""
    if snapshot.status == "running":
        left = live.left_text(snapshot.left) if snapshot.searching else "trials are over"
    title = "trials" if snapshot.planned is not None else "trials so far"
    return live.search(trials, title, snapshot.planned, 0, snapshot.seconds or 0.0, left, console=screen, timed=False)


def trials_of(snapshot: Snapshot) -> live.Trials:
    """The trials as the live display has them."""
    trials = live.Trials(snapshot.goals)
    ended = best_so_far(snapshot)
    known = {trial.number for trial, _ in ended}
    best = ended[-1][1] if ended else None
    for trial, until_then in ended:
        trials.change(trial, until_then)
    for trial in snapshot.trials:
        if trial.number not in known:
            trials.change(trial, best)
    return trials


def _stages(snapshot: Snapshot, screen: Console) -> RenderableType:
    """Of a run that is no search, or of what comes before or after the trials: the stages, and how far this one is."""
    progress = snapshot.progress
    assert progress is not None
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, justify="right")
    for text, seconds in progress["stages"][-live.STAGES :]:
        sign = Text(live.mark("✓", "+", screen), style=GOOD)
        grid.add_row(sign, Text(one_line(str(text)), style="dim"), Text(live.period(float(seconds)), style="dim"))
    step, total = progress["step"], progress["total"]
    words = [] if step is None else [f"{step} of {live.things(total, 'step')}" if total else f"step {step}"]
    if snapshot.status == "running":
        words.append(live.left_text(snapshot.left))
    rows: list[RenderableType] = [grid] if grid.row_count else []
    rows.append(live.bar(one_line(progress["stage"]), step or 0, total, " · ".join(words), screen))
    if progress["counters"]:
        counts = [live.so_many(each["done"], each["of"], each["what"]) for each in progress["counters"][:2]]
        rows.append(_one_line(Text("  " + " · ".join(counts), style="dim")))
    if progress["metrics"]:
        rows.append(_one_line(_metrics(progress["metrics"])))
    return Group(*rows)


def _remarks(snapshot: Snapshot) -> list[str]:
    """What a reader should know of how the run stands, beside its figures."""
    match snapshot.status:
        case "killed":
            since = "" if snapshot.silent is None else f", for {live.period(snapshot.silent)}"
            return [f"nobody writes this run any more{since}: its process was killed. --resume goes on with it"]
        case "failed":
            return [one_line(redacted(snapshot.reason), 500)]
        case "interrupted":
            return ["it was interrupted; --resume goes on with it"]
        case "completed":
            return [f"the result: modelopt show {snapshot.name}"]
        case "running":
            if snapshot.progress is None and not snapshot.trials:
                return ["nothing is known of it yet: it has just begun, or is of an earlier version"]
            if snapshot.silent is not None and snapshot.silent > _SILENT:
                return [f"nothing was written for {live.period(snapshot.silent)}; its process is alive"]
            return []


class _Lines:
    """A line on each change."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._status, self._stage, self._step = "", "", -1
        self._ended = 0

    def take(self, snapshot: Snapshot) -> None:
        """Say what is new."""
        if not self._status and snapshot.status == "running":
            self._line(f"{snapshot.name}: {snapshot.workflow or 'a run'}, running")
        ended = best_so_far(snapshot)
        for trial, _ in ended[self._ended :]:
            self._line(describe(trial, snapshot.goals))
        if len(ended) > self._ended and snapshot.status == "running":
            best = ended[-1][1]
            of = "" if snapshot.planned is None else f" of {snapshot.planned}"
            words = [f"{len(ended)}{of} trials have ended"]
            if best is not None:
                words.append(f"the best is trial {best.number}")
            self._line("; ".join([*words, live.left_text(snapshot.left)]))
        self._ended = len(ended)
        progress = snapshot.progress
        if progress is not None and progress["search"] is None and snapshot.status == "running":
            step = progress["step"] if progress["step"] is not None else -1
            if progress["stage"] != self._stage or step != self._step:
                of = f" of {progress['total']}" if progress["total"] else ""
                at = f"  step {step}{of}" if step >= 0 else ""
                figures = "  ".join(f"{name} {number(value)}" for name, value in progress["metrics"].items())
                self._line(f"{progress['stage']}{at}  {figures}  [{live.left_text(snapshot.left)}]")
            self._stage, self._step = progress["stage"], step
        if snapshot.status != self._status and snapshot.status != "running":
            self._line(f"{snapshot.name}: {snapshot.status}")
            if snapshot.report is not None and not snapshot.trials:
                self._line("  ".join(f"{name} {number(value)}" for name, value in snapshot.report.metrics.items()))
            for text in _remarks(snapshot):
                self._line(text)
        self._status = snapshot.status

    def _line(self, text: str) -> None:
        self._screen.print(Text(redacted(text)), soft_wrap=True)


def _metrics(metrics: dict[str, float]) -> Text:
    return Text("  " + "  ".join(f"{name} {number(value)}" for name, value in metrics.items()))


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
