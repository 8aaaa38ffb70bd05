"""The study: the only stateful object of a search. Ask it for a trial, tell it what came of it.

    study = Study({"lr": {"float": [1e-4, 1], "log": True}, "kernel": ["rbf", "linear"]}, objective="minimize loss")
    trial = study.ask()
    study.tell(trial, (trial.params["lr"] - 0.1) ** 2)
    study.best.params

Every random choice derives from the study's seed and the trial's number, and a suggestion depends on the events before
it alone: the same tells in the same order give the same asks, in memory, on disk and after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import FailureKind, InputError, TrialError, UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.core.strategy import Named
from modelopt_cli.tuning import history, ranking
from modelopt_cli.tuning.samplers import Sampler
from modelopt_cli.tuning.space import Space
from modelopt_cli.tuning.store import Store
from modelopt_cli.tuning.suggestions import suggest
from modelopt_cli.tuning.trial import Metrics, Params, State, Trial


class Study:
    """See the module docstring.

    space: a Space, or its specification as written in a file. sampler: its name, a mapping with `type`, or a Sampler.
    objective: `minimize METRIC` or `maximize METRIC`, or several of them. path: a file to keep the study in; an existing
    one is continued, its interrupted trials first. Raises UsageError where an argument makes no sense, StorageError for
    a damaged file.
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        sampler: str | Mapping[str, Any] | Sampler = "bayesian",
        objective: str | Sequence[str] = "minimize loss",
        seed: int = 0,
        path: str | Path | None = None,
        *,
        constraints: Sequence[str] = (),
        repeats: bool = False,
    ) -> None:
        try:
            self.space = space if isinstance(space, Space) else Space.from_spec(space)
            self.sampler = _sampler(sampler)
            self.goals = tuple(Goal.parse(text) for text in ([objective] if isinstance(objective, str) else objective))
            self.constraints = tuple(Condition.parse(text) for text in constraints)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.seed, self.repeats = seed, repeats
        self._store = Store(Path(path) if path is not None else None)
        self._check_meta()
        self._trials = history.replay(self._store.events())
        self._seen = {self.space.canonical(trial.params) for trial in self._trials}
        self._requeue()

    @staticmethod
    def read(path: str | Path) -> tuple[list[Trial], dict[str, Any]]:
        """The trials of the study at `path` and what it was made with, without taking it over; also while it runs."""
        store = Store(Path(path), write=False)
        try:
            return history.replay(store.events()), store.meta()
        finally:
            store.close()

    def _check_meta(self) -> None:
        """A study on disk must be continued with the space, objective, sampler and seed it was begun with."""
        now = {
            "objective": [str(goal) for goal in self.goals],
            "constraints": [str(condition) for condition in self.constraints],
            "sampler": self.sampler.model_dump(mode="json"),
            "seed": self.seed,
            "space": self.space.describe(),
        }
        before = self._store.meta()
        if not before:
            self._store.set_meta(now)
            return
        changed = [key for key in now if before.get(key) != now[key]]
        if changed:
            rows = "; ".join(f"{key} was {before.get(key)!r}, is {now[key]!r}" for key in changed)
            raise UsageError(f"the study was begun otherwise: {rows}. Use the same arguments, or another path")

    def _requeue(self) -> None:
        """Trials that were under way when the last process ended are run again, from the start, before any other."""
        for trial in self._trials:
            if trial.state in (State.RUNNING, State.PAUSED):
                self._trials[trial.number] = Trial(trial.number, trial.params, trial.seed, origin=trial.origin)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in order of number."""
        return tuple(self._trials)

    @property
    def best(self) -> Trial | None:
        """The best finished trial: feasible before infeasible, then the lowest loss of the first objective."""
        return ranking.best(self._trials)

    @property
    def front(self) -> list[Trial]:
        """The best compromises between several objectives; with one, the best trials that are equal."""
        return ranking.front(self._trials)

    def queue(self, params: Params, origin: str = "initial") -> Trial:
        """Enqueue a setting to be tried before any suggestion; one already there is not added again."""
        key = self.space.canonical(params)
        if key in self._seen and not self.repeats:
            return next(trial for trial in self._trials if self.space.canonical(trial.params) == key)
        number = len(self._trials)
        seed = derive(self.seed, "trial", number)
        self._record("queued", number, {"params": params, "seed": seed, "origin": origin}, commit=True)
        self._seen.add(key)
        return self._trials[number]

    def ask(self) -> Trial:
        """The next trial to run, marked as running: the first queued one, else what the sampler suggests.

        Raises Exhausted when every setting of a finite space has been tried.
        """
        trial = next((trial for trial in self._trials if trial.state is State.QUEUED), None)
        if trial is None:
            trial = self.queue(suggest(self), "sampler")
        self._record("started", trial.number, {}, commit=True)
        return self._trials[trial.number]

    def seen(self, params: Params) -> bool:
        """True when this very setting has been asked for or enqueued before."""
        return self.space.canonical(params) in self._seen

    def report(self, trial: Trial | int, step: int, metrics: Mapping[str, float]) -> Trial:
        """Add a point to a running trial's curve."""
        number = self._expect(trial, State.RUNNING, State.PAUSED)
        plain = _plain(metrics)
        payload = {"step": int(step), "metrics": plain, "losses": self._losses(plain)}
        self._record("reported", number, payload, commit=False)
        return self._trials[number]

    def pause(self, trial: Trial | int) -> Trial:
        """Mark a running trial as paused; `resume` marks it as running again."""
        number = self._expect(trial, State.RUNNING)
        self._record("paused", number, {}, commit=True)
        return self._trials[number]

    def resume(self, trial: Trial | int) -> Trial:
        """Mark a paused trial as running again; its curve goes on."""
        number = self._expect(trial, State.PAUSED)
        self._record("started", number, {}, commit=True)
        return self._trials[number]

    def tell(
        self,
        trial: Trial | int,
        result: float | Mapping[str, float] | BaseException,
        *,
        stopped: str = "",
        seconds: float = 0.0,
    ) -> Trial:
        """End a trial with its value (one objective), its metrics, or the exception it failed with.

        `stopped`: why it was ended early. A value that is NaN or infinite, or metrics without the objective, make the
        trial a failed one. Raises UsageError for a trial that is not under way.
        """
        number = self._expect(trial, State.RUNNING, State.PAUSED)
        if isinstance(result, BaseException):
            kind: FailureKind = result.kind if isinstance(result, TrialError) else "error"
            return self._fail(number, kind, str(result) or type(result).__name__, {}, seconds)
        metrics = self._as_metrics(result)
        losses = self._losses(metrics)
        if losses is None:
            kind, reason = self._why_no_loss(metrics)
            return self._fail(number, kind, reason, metrics, seconds)
        violations = [condition.violation(metrics) for condition in self.constraints]
        state = State.STOPPED if stopped else State.COMPLETED
        return self._end(number, state, metrics, losses, math.fsum(violations), "", stopped, seconds)

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _as_metrics(self, result: float | Mapping[str, float]) -> Metrics:
        if isinstance(result, Mapping):
            return _plain(result)
        if len(self.goals) > 1:
            raise UsageError(f"the study has {len(self.goals)} objectives; tell a mapping of metrics, not one number")
        return _plain({self.goals[0].metric: result})

    def _losses(self, metrics: Metrics) -> list[float] | None:
        losses = [goal.loss(metrics) for goal in self.goals]
        return None if any(loss is None for loss in losses) else [loss for loss in losses if loss is not None]

    def _why_no_loss(self, metrics: Metrics) -> tuple[FailureKind, str]:
        goal = next(goal for goal in self.goals if goal.loss(metrics) is None)
        if goal.metric in metrics:
            return "nan", f"{goal.metric} is {metrics[goal.metric]}"
        return "error", f"the objective's metric '{goal.metric}' was not reported; there were: {', '.join(metrics) or 'none'}"

    def _fail(self, number: int, kind: FailureKind, reason: str, metrics: Metrics, seconds: float) -> Trial:
        return self._end(number, State.FAILED, metrics, None, 0.0, kind, reason, seconds)

    def _end(
        self,
        number: int,
        state: State,
        metrics: Metrics,
        losses: list[float] | None,
        violation: float,
        failure: str,
        reason: str,
        seconds: float,
    ) -> Trial:
        payload = {
            "state": str(state),
            "metrics": metrics,
            "losses": losses,
            "violation": violation,
            "failure": failure,
            "reason": reason,
            "seconds": seconds,
        }
        self._record("told", number, payload, commit=True)
        return self._trials[number]

    def _expect(self, trial: Trial | int, *states: State) -> int:
        number = trial if isinstance(trial, int) else trial.number
        if not 0 <= number < len(self._trials):
            raise UsageError(f"there is no trial {number}; the study has {len(self._trials)}")
        state = self._trials[number].state
        if state not in states:
            raise UsageError(f"trial {number} is {state}, but must be {' or '.join(states)}; ask for a new one")
        return number

    def _record(self, kind: str, number: int, payload: dict[str, Any], *, commit: bool) -> None:
        try:
            self._store.append(kind, number, payload, commit=commit)
        except TypeError as error:
            raise InputError(f"trial {number}: {error}; use plain numbers, text, booleans, null, lists or mappings") from None
        history.apply(self._trials, kind, number, payload)


def _sampler(sampler: str | Mapping[str, Any] | Sampler) -> Sampler:
    found = Named("samplers").parse(dict(sampler) if isinstance(sampler, Mapping) else sampler)
    if not isinstance(found, Sampler):
        raise UsageError(f"{found!r} is no sampler")
    return found


def _plain(metrics: Mapping[str, float]) -> Metrics:
    """Python floats. Raises UsageError for what is no number."""
    try:
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError) as error:
        raise UsageError(f"metrics must be numbers: {error}") from None
