"""A trial: one setting of the search space, and what came of it. Frozen; the study replaces it as it moves on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Params = dict[str, Any]
"""Dotted path -> value, for the active parameters only. Plain Python values, never numpy scalars."""

Metrics = dict[str, float]

_FEW = 4  # metrics that a notebook shows unasked


class State(StrEnum):
    """Where a trial stands. `stopped` means ended early by a stopper: its losses count, as of its last report."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """True for completed, stopped and failed."""
        return self in (State.COMPLETED, State.STOPPED, State.FAILED)


CHEAP = "cheap"
"""The origin of a trial that varies late stages alone (`tuning.cheap_first`)."""


@dataclass(frozen=True, slots=True)
class Point:
    """One report of a running trial: after `step` steps (epochs, folds), these metrics and losses."""

    step: int
    metrics: Mapping[str, float]
    losses: tuple[float, ...] | None = None  # one per objective, lower is better; None: an objective is missing
    order: int = 0  # among all reports of the study, from 0


@dataclass(frozen=True, slots=True, repr=False)
class Trial:
    """See the module docstring. `losses` are lower-is-better whatever the direction of the objective."""

    number: int
    params: Params
    seed: int
    state: State = State.QUEUED
    curve: tuple[Point, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[float, ...] | None = None  # also None for a stopped trial that does not count (see Study.tell)
    violation: float = 0.0  # sum over constraints of the distance to the good side; 0 is feasible
    margins: tuple[float | None, ...] = ()  # of each constraint the distance to its bound, positive: met; None: unknown
    failure: str = ""  # nan | memory | crash | timeout | error, when failed
    reason: str = ""  # why it failed or was stopped, one line
    origin: str = "sampler"  # file | initial | cheap | sampler | scheduler
    seconds: float = 0.0
    total: int | None = None  # steps of a complete run; None before the first report
    parent: int | None = None  # the trial whose state it went on from
    born: int = 0  # the step of that state
    kept: int = 0  # points of the curve when it last was started; what came after is void when it is interrupted

    @property
    def step(self) -> int:
        """The last step that was reported."""
        return self.curve[-1].step if self.curve else self.born

    @property
    def saved(self) -> int | None:
        """The step at which its state was last kept, by a pause; None: never. Where the state is lost, it still says
        where another trial went on from it."""
        points = self.curve if self.state is State.PAUSED else self.curve[: self.kept]
        return points[-1].step if points else None

    @property
    def loss(self) -> float | None:
        """The first objective's loss."""
        return self.losses[0] if self.losses else None

    def __repr__(self) -> str:
        """`Trial(7 completed, loss 0.0123)`: its metric where it has one, else the loss (lower is better)."""
        from modelopt_cli.core.readable import number
        from modelopt_cli.core.text import one_line

        values = self.metrics if len(self.metrics) == 1 else {} if self.loss is None else {"loss": self.loss}
        shown = [f"{name} {number(value)}" for name, value in values.items()]
        why = [one_line(self.reason)] if self.reason else []
        return f"Trial({', '.join([f'{self.number} {self.state}', *shown, *why])})"

    def _repr_html_(self) -> str:
        """For a notebook: what it was tried with, and what came of it."""
        from modelopt_cli.core import markup
        from modelopt_cli.core.readable import duration

        colors = {State.COMPLETED: markup.GOOD, State.FAILED: markup.BAD}
        took = duration(self.seconds) if self.seconds else ""
        color = colors.get(self.state, markup.PENDING)
        return markup.card(
            markup.heading(f"Trial {self.number}", self.origin, took, state=str(self.state), color=color),
            markup.paragraph(self.reason),
            markup.facts(self.params),
            markup.folded("metrics", markup.facts(self.metrics))
            if len(self.metrics) > _FEW
            else markup.facts(self.metrics),
        )
