"""Where a run stands, as its events told it: its stage, what is counted in it, its steps, how long it will still take.

What shows progress asks here: the live display, the lines without a terminal, and the file that `modelopt watch` reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from modelopt_cli.workflows.shared.context import (
    Counted,
    EpochEnded,
    NextSeed,
    Progress,
    SearchEnded,
    SearchStarted,
    StageBegun,
)
from modelopt_cli.workflows.shared.time_left import Estimate, TimeLeft

_STAGES = 50  # that are remembered


@dataclass(frozen=True)
class Counter:
    """So many of `what` are done in the stage under way; `began`: by the clock, and at how many."""

    what: str
    done: int
    of: int | None
    began: float
    first: int


@dataclass
class StateOfWork:
    """Takes events; the rest is to be read. `clock`: seconds that only grow."""

    clock: Callable[[], float] = time.monotonic
    stage: str = "starting"
    stages: list[tuple[str, float]] = field(default_factory=list)  # that are over, and their seconds
    counters: list[Counter] = field(default_factory=list)  # in the stage under way, the outermost first
    step: int | None = None
    total: int | None = None
    doing: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    search: SearchStarted | None = None  # while it goes on
    seed: NextSeed | None = None

    def __post_init__(self) -> None:
        self._time_left = TimeLeft(self.clock)
        self._whole = False  # the stage under way is all there is
        self.began = self.stage_began = self.clock()

    def take(self, event: Progress) -> None:
        """Learn from an event."""
        self._time_left.take(event)
        match event:
            case StageBegun(text, whole):
                self._begin(text)
                self._whole = whole
            case SearchStarted():
                self._begin("searching")
                self.search = event
            case SearchEnded():
                self.search = None
            case NextSeed():
                self.seed = event
                self.step = self.total = None
            case EpochEnded(step, total, metrics, doing):
                self.step, self.total, self.metrics, self.doing = step, total, metrics, doing
            case Counted(what, done, of):
                self._count(what, done, of)
            case _:
                pass

    def _begin(self, text: str) -> None:
        now = self.clock()
        if self.stage != "starting" or now - self.stage_began >= 1.0:
            self.stages = [*self.stages, (self.stage, now - self.stage_began)][-_STAGES:]
        self.stage, self.stage_began, self.counters = text, now, []

    def _count(self, what: str, done: int, of: int | None) -> None:
        """What is counted within another is below it; it is over when the other one goes on."""
        names = [counter.what for counter in self.counters]
        at = names.index(what) if what in names else len(names)
        before = self.counters[at] if at < len(names) else None
        again = before is None or done < before.done
        began, first = (self.clock(), done) if before is None or again else (before.began, before.first)
        self.counters = self.counters[:at]
        if of is None or done < of:
            self.counters.append(Counter(what, done, of, began, first))

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self.clock() - self.began

    @property
    def stage_seconds(self) -> float:
        """Since the stage began."""
        return self.clock() - self.stage_began

    def left(self) -> Estimate | None:
        """Until the end of the run; None: unknown."""
        left, counted = self._time_left.left(), self.counted_left()
        return Estimate(counted) if left is None and self._whole and counted is not None else left

    def counted_left(self) -> float | None:
        """Seconds until all that is counted, the outermost of it, is done; None: unknown."""
        if not self.counters:
            return None
        counter = self.counters[0]
        done = counter.done - counter.first
        if counter.of is None or done < 2:
            return None
        return (self.clock() - counter.began) / done * (counter.of - counter.done)
