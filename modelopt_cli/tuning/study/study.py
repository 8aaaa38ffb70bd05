"""The study: the only stateful object of a search. Ask it for a trial, tell it what came of it.

>>> study = Study({"lr": {"float": [1e-4, 1], "log": True}, "kernel": ["rbf", "linear"]}, "random", "minimize loss")
>>> for _ in range(20):
...     trial = study.ask()
...     trial = study.tell(trial, (trial.params["lr"] - 0.1) ** 2)
>>> study.best.loss < 0.01
True
>>> study.best.params == min(study.trials, key=lambda trial: trial.loss).params
True

Every change is an event of a log (study/log.py), kept in a store (study/store.py); the trials are what the events
leave. Every random choice derives from the study's seed and the trial's number, and a suggestion depends on the events
before it alone: the same tells in the same order give the same asks, in memory, on disk and after a resume.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsFloat

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.analysis.replication import Posterior, best_of, posterior
from modelopt_cli.tuning.exchange.optuna_address import OptunaAddress
from modelopt_cli.tuning.objective import StepReport
from modelopt_cli.tuning.samplers import Sampler
from modelopt_cli.tuning.schedulers import Decision, SchedulerContext, plain
from modelopt_cli.tuning.space.parameters import plain_value
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.space.tried import Tried
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.study import header
from modelopt_cli.tuning.study.log import NO_TRIAL, Decided, Queued, Reported, stored_table
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.tuning.study.timeline import Stint, stints
from modelopt_cli.tuning.study.warm_start import EarlierRun, WarmStart, optuna_run, study_file
from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.by_state import ByState, in_state
from modelopt_cli.tuning.trials.evaluator import ObjectiveEvaluator, Result
from modelopt_cli.tuning.trials.indexed import IndexedTrials, derived
from modelopt_cli.tuning.trials.running_best import RunningBest
from modelopt_cli.tuning.trials.trial import Params, State, Trial

if TYPE_CHECKING:
    import pandas as pd

    from modelopt_cli.results.charts.chart import Chart

__all__ = ["Exhausted", "Study"]

_ATTEMPTS = 3  # asks of the sampler before others are tried
_DRAWS = 200  # random settings before a finite space is searched point by point
_MOST_POINTS = 1_000_000


class Exhausted(LookupError):  # noqa: N818  (an end, not an error)
    """Every setting of the space has been tried (or the sampler has no more)."""


class Study:
    """See the module docstring. A context manager: leaving it lets go of the file.

    space: a Space, or its specification as written in a file. sampler, stopper: a name, a mapping with `type`, or the
    strategy itself. objective: `minimize METRIC` or `maximize METRIC`, or several of them. constraints: conditions
    that a best trial must meet (`model.size_bytes <= 100_000`). rules: what must hold between searched values (`depth
    <= width`), so that no other combination is tried; those of a Space stand unless some are given. initial: settings
    to try first. repeats: whether a setting may be tried again where that teaches more than a new one
    (analysis/replication.py). path: a file to keep the study in; an existing one is continued, its interrupted trials
    first, and must have been begun with the same arguments (and `fingerprint`, plain values of the caller's own).
    earlier: runs (directories, study files, `optuna:sqlite:///FILE#STUDY`, or EarlierRuns) whose trials the sampler
    shall know; noted when the study is begun, so that one that is continued knows the same, whatever became of them.
    Raises UsageError where an argument makes no sense, StorageError for a file that is damaged or in use.
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
        rules: str | Sequence[str] = (),
        stopper: str | Mapping[str, Any] | Stopper | None = None,
        initial: Sequence[Params] = (),
        repeats: bool = False,
        fingerprint: Mapping[str, Any] | None = None,
        earlier: Sequence[str | Path | EarlierRun] = (),
    ) -> None:
        try:
            self.space = space if isinstance(space, Space) and not rules else _ruled(space, rules)
            self.sampler: Sampler = header.strategy("samplers", sampler)
            self.stopper: Stopper | None = None if stopper is None else header.strategy("stoppers", stopper)
            self._evaluator = ObjectiveEvaluator.parse(objective, constraints)
            if self.sampler.exact:
                self.space.grid()  # raises for what cannot be listed
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.sampler.check()
        self.sampler.check_space(self.space)
        self.seed, self.repeats = seed, repeats
        self._posterior: tuple[int, Posterior | None] = (0, None)  # trials that had ended then
        self._store = Store(Path(path) if path is not None else None)
        try:
            self.warm_start = self._begin(fingerprint, earlier)
            self._table = stored_table(self._store)
        except BaseException:
            self._store.close()
            raise
        self._trials = self._table.trials  # that very list
        self._known = self.history.after(self.warm_start.trials) if self.warm_start.trials else self.history
        self.requeue()
        for params in initial:
            self.queue(params)

    def _begin(self, fingerprint: Mapping[str, Any] | None, earlier: Sequence[str | Path | EarlierRun]) -> WarmStart:
        """Note what the study is begun with; one that is continued must have been begun with the same.

        What it knows of `earlier` runs is noted with it, and read from there ever after; so is the order of the space's
        keys, on which suggestions depend, though the order in a mapping means nothing to who writes it.
        """
        before, now = header.stored_header(self._store), self._header(fingerprint)
        if before:
            header.check_unchanged(before, now)
            if json.dumps(before["space"]) != json.dumps(now["space"]):  # the same but for the order of keys
                self.space = Space.from_spec(before["space"], now["rules"])
            stored = before.get("earlier")
        else:
            runs = map(self._earlier_run, earlier)
            stored = json.loads(json.dumps(WarmStart.gather(runs, self.space, self._evaluator).to_plain()))
            self._store.set_meta({**now, "earlier": stored})
        try:
            return WarmStart() if stored is None else WarmStart.from_plain(stored)
        except (LookupError, TypeError, ValueError) as error:
            raise self._store.damaged(f"its earlier trials make no sense: {error}") from None

    def _earlier_run(self, run: str | Path | EarlierRun) -> EarlierRun:
        if isinstance(run, EarlierRun):
            return run
        try:
            address = OptunaAddress.parse(str(run))
        except ValueError as error:
            raise UsageError(str(error)) from None
        if address is not None:
            return optuna_run(address, self.space, self.goals)
        return EarlierRun(self.read(study_file(run))[0])

    def _header(self, fingerprint: Mapping[str, Any] | None) -> header.Header:
        return header.plain_header(
            {
                "space": self.space.to_spec(),
                "sampler": self.sampler.model_dump(mode="json"),
                "objective": [str(goal) for goal in self.goals],
                "seed": self.seed,
                "constraints": [str(condition) for condition in self.constraints],
                "stopper": None if self.stopper is None else self.stopper.model_dump(mode="json"),
                "repeats": self.repeats,
                "fingerprint": None if fingerprint is None else dict(fingerprint),
                "rules": [str(rule) for rule in self.space.rules],
            }
        )

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Continue the study at `path` with what it was begun with. Raises InputError when there is none."""
        store = Store(Path(path), write=False)
        try:
            begun_with = header.whole_header(store)
        finally:
            store.close()
        return cls(**header.arguments(begun_with), path=path)

    @staticmethod
    def read_stints(path: str | Path, trials: Sequence[Trial]) -> list[Stint]:
        """When each of these trials of the study at `path` ran, see `stints`; also while it is searched."""
        store = Store(Path(path), write=False)
        try:
            return stints(store.times(), trials)
        finally:
            store.close()

    @staticmethod
    def read(path: str | Path) -> tuple[list[Trial], header.Header]:
        """The trials of the study at `path` and what it was begun with, without taking it over; also while it runs."""
        store = Store(Path(path), write=False)
        try:
            return stored_table(store).trials, header.stored_header(store)
        finally:
            store.close()

    @staticmethod
    def begun(path: str | Path, number: int) -> float | None:
        """When that trial was last begun or gone on with (seconds since the epoch); None: never. Also while it runs."""
        store = Store(Path(path), write=False)
        try:
            return max(
                (when for when, kind, trial in store.times() if (kind, trial) == ("started", number)), default=None
            )
        finally:
            store.close()

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # What it knows

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The objectives."""
        return self._evaluator.goals

    @property
    def constraints(self) -> tuple[Condition, ...]:
        """The constraints."""
        return self._evaluator.constraints

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, in order of number, as they are now."""
        return tuple(self._trials)

    @property
    def history(self) -> IndexedTrials:
        """All trials, in order of number, as they are at any time: changes with the study, and copies nothing."""
        return self._table.history

    @property
    def best(self) -> Trial | None:
        """The best finished trial: feasible before infeasible, then the lowest loss of the first objective.

        Where settings may be repeated, the best trial of the setting with the lowest posterior mean.
        """
        posterior = self.posterior
        return derived(self.history, RunningBest).trial if posterior is None else best_of(self._trials, posterior)

    @property
    def posterior(self) -> Posterior | None:
        """What settings that may be repeated are worth without noise; None: they may not, or it is too early."""
        ended = derived(self.history, ByState).finished if self.repeats else 0
        if ended != self._posterior[0]:
            self._posterior = (ended, posterior(self.space, self._trials))
        return self._posterior[1]

    @property
    def beliefs(self) -> Posterior | None:
        """Deprecated: the old name of `posterior`."""
        return self.posterior

    @property
    def knowledge(self) -> WarmStart:
        """Deprecated: the old name of `warm_start`."""
        return self.warm_start

    @property
    def front(self) -> list[Trial]:
        """The best compromises between several objectives; with one, the best trials that are equal."""
        return ranking.front(self._trials)

    @property
    def stints(self) -> list[Stint]:
        """When each trial ran, and beside which others (study/timeline.py)."""
        return stints(self._store.times(), self.trials)

    def to_pandas(self) -> pd.DataFrame:
        """A row a trial, in order of number: state, metrics, settings, seed and seconds, as in trials.csv."""
        from modelopt_cli.tuning.trials.table import trials_table

        return trials_table(self.trials, self.space.paths).to_pandas()

    def plot(self, kind: str = "history") -> Chart:
        """A chart of the trials, which a notebook shows: history, front, parallel, slices, curves, failures.

        Raises UsageError for a kind that there is not, or that the study has nothing of yet.
        """
        from modelopt_cli.results.report import Report
        from modelopt_cli.tuning.trials.table import curves_table, trials_table

        goals = [str(goal) for goal in self.goals]
        details = {"objective": goals, "space": self.space.describe(), "front": [each.number for each in self.front]}
        tables = {"trials": trials_table(self.trials, self.space.paths)}
        curves = curves_table(self.trials, [goal.metric for goal in self.goals])
        report = Report(kind="search", workflow="tune", name="study", tables=tables, details=details)
        return report.with_beside({"curves": curves}).plot(kind)

    def __repr__(self) -> str:
        from modelopt_cli.tuning.study.notebook import in_a_line

        return in_a_line(self.trials, self.best, self.goals)

    def _repr_html_(self) -> str:
        from modelopt_cli.tuning.study.notebook import as_html

        return as_html(self.trials, self.best, self.goals, self.sampler.name(), self.space.paths)

    def seen(self, params: Params) -> bool:
        """True when this very setting has been asked for or enqueued before."""
        return self._first(self.space.plain(params)) is not None

    def _first(self, params: Params) -> int | None:
        """The number of the first trial of this very setting."""
        return derived(self.history, Tried, self.space).first(params)

    def settle(self) -> None:
        """Let others read what was reported more than a second ago, though no event has come since."""
        self._store.settle()

    # Trials begin

    def queue(self, params: Params, origin: str = "initial") -> Trial:
        """Enqueue a setting to be tried before any suggestion; one already there is not added again.

        Raises UsageError when it is no setting of the space.
        """
        params = self.space.plain(params)
        problem = self.space.problem(params)
        if problem is not None:
            raise UsageError(f"{params} cannot be enqueued: {problem}")
        first = None if self.repeats else self._first(params)
        return self._add(params, origin) if first is None else self._trials[first]

    def ask(self, params: Params | None = None, parent: int | None = None) -> Trial:
        """The next trial to run, marked as running: the first queued one, else `params`, else the sampler's suggestion.

        `parent`: the trial whose state, as of its last pause, a trial of `params` goes on from; those may be tried
        already. Raises Exhausted (a LookupError) when every setting of a finite space has been tried, UsageError for
        `params` outside the space, and for a parent that was never paused.
        """
        trial = next(iter(in_state(self.history, State.QUEUED)), None)
        if trial is None and params is None:
            trial = self._add(self.suggest(), "sampler", commit=False)
        elif trial is None and params is not None:
            params = self.space.plain(params)
            problem = self.space.problem(params)
            if problem is not None:
                raise UsageError(f"{params} cannot be run: {problem}")
            trial = self._add(params, "scheduler", parent, commit=False)
        assert trial is not None
        return self._record("started", trial.number, {})  # committed with what it was queued by

    def ask_many(self, n: int) -> list[Trial]:
        """Up to `n` trials to run at the same time; fewer when the space is exhausted, Exhausted when none is left."""
        if n < 1:
            raise UsageError(f"ask_many was given {n}, but must be at least 1")
        trials = [self.ask()]
        with suppress(Exhausted):
            while len(trials) < n:
                trials.append(self.ask())
        return trials

    def suggest(self) -> Params:
        """What `ask` would try next if nothing were queued. Raises Exhausted.

        The sampler's suggestion; where it repeats itself, a random or listed setting that was not tried yet. Where
        settings may be repeated, one that was tried may be worth more than a new one. The sampler's generator is seeded
        by (study's seed, number of the trial), so that the suggestion depends on nothing else.
        """
        import numpy as np

        number = len(self._trials)
        trials = self.history if self.sampler.exact else self._known  # a list is tried from its beginning
        for attempt in range(_ATTEMPTS):
            rng = np.random.default_rng(derive(self.seed, "ask", number, attempt))
            suggested = self.sampler.suggest(self.space, trials, rng, 1)
            if not suggested:
                break
            if self.space.broken(suggested[0]) is not None:
                continue
            if self.repeats:
                return self._repeated(suggested[0]) or suggested[0]
            if not self.seen(suggested[0]):
                return suggested[0]
        if self.sampler.exact:
            raise Exhausted(f"the {self.sampler.name()} has been tried completely")
        rng = np.random.default_rng(derive(self.seed, "draw", number))
        draws = (self.space.sample(rng) for _ in range(_DRAWS))
        fresh = next((params for params in draws if self.repeats or not self.seen(params)), None)
        fresh = fresh if fresh is not None else self._first_untried()
        if fresh is None:
            raise Exhausted(f"all {self.space.size} settings of the space have been tried")
        return (self._repeated(fresh) or fresh) if self.repeats else fresh  # every one was tried, so which one again?

    def _repeated(self, proposal: Params) -> Params | None:
        """A setting to be tried once more in place of the proposal."""
        posterior = None if self.sampler.exact else self.posterior
        if posterior is None:
            return None
        states = derived(self.history, ByState)
        under_way = sorted(number for state in State if not state.finished for number in states.numbers(state))
        return posterior.again(proposal, [self._trials[number].params for number in under_way])

    def _first_untried(self) -> Params | None:
        """The first setting of a finite space that was not tried."""
        if math.isinf(self.space.size):
            return None
        points = itertools.islice(self.space.every(), _MOST_POINTS)
        return next((params for params in points if not self.seen(params)), None)

    def _add(self, params: Params, origin: str, parent: int | None = None, *, commit: bool = True) -> Trial:
        number = len(self._trials)
        payload: Queued = {"params": params, "seed": derive(self.seed, "trial", number), "origin": origin}
        if parent is not None:
            born = self._trials[parent].saved
            if born is None:
                raise UsageError(f"trial {parent} was never paused, so no trial can go on from its state")
            payload = {**payload, "parent": parent, "born": born}
        return self._record("queued", number, payload, commit=commit)

    # What becomes of them

    def report(self, trial: Trial | int, step: int, metrics: SupportsFloat | Mapping[str, SupportsFloat]) -> Trial:
        """Add a point to a running trial's curve: what its metrics are after `step` steps."""
        return self.report_many(trial, [(step, self._evaluator.metrics(metrics))])

    def report_many(self, trial: Trial | int, reports: Sequence[StepReport], total: int | None = None) -> Trial:
        """Several points at once. `total`: the steps of a complete run, where they are known."""
        number = self._expect(trial, State.RUNNING)
        payload: Reported = {"points": []}
        for step, metrics in reports:
            if step < 0 or step != int(step):
                raise UsageError(f"trial {number} reported step {step!r}, but steps are whole and not negative")
            floats = self._evaluator.metrics(metrics)
            payload["points"].append((int(step), floats, self._evaluator.losses(floats)))
        if total is not None and total != self._trials[number].total:
            payload["total"] = total
        return self._record("reported", number, payload, commit=False)

    def should_stop(self, trial: Trial | int) -> str | None:
        """Why the study's stopper would end the trial now, None to let it go on (or without a stopper).

        To end it: `study.tell(trial, metrics, stopped=reason)`.
        """
        number = self._expect(trial, State.RUNNING)
        return None if self.stopper is None else self.stopper.reason(self._trials[number], self.history, self.goals)

    def pause(self, trial: Trial | int) -> Trial:
        """Mark a running trial as paused; `resume` marks it as running again."""
        return self._record("paused", self._expect(trial, State.RUNNING), {})

    def resume(self, trial: Trial | int) -> Trial:
        """Mark a paused trial as running again; its curve goes on."""
        return self._record("started", self._expect(trial, State.PAUSED), {})

    def requeue(self, trial: Trial | int | None = None) -> None:
        """Let a trial that is under way be asked for again, first, and run from the start.

        None: all that run; one that was paused before is paused again, as it was then.
        """
        if trial is not None:
            self._record("requeued", self._expect(trial, State.RUNNING, State.PAUSED), {})
            return
        for each in in_state(self.history, State.RUNNING):
            self._record("suspended" if each.kept or each.parent is not None else "requeued", each.number, {})

    def tell(
        self,
        trial: Trial | int,
        result: Result,
        *,
        stopped: str = "",
        seconds: float = 0.0,
        counts: bool = True,
        total: int | None = None,
    ) -> Trial:
        """End a trial with its value (one objective), its metrics, or the exception it failed with.

        A failure of a certain kind: `TrialError("timeout", "took too long")`. `stopped`: why it was ended early; with
        `counts` False what it tells, of a part of the folds or of the data, is no candidate for the best. `total`: the
        steps of a complete run, where they are known by now. A value that is NaN or infinite, or metrics without the
        objective, make the trial a failed one. Raises UsageError for a trial that is not under way.
        """
        number = self._expect(trial, State.RUNNING, State.PAUSED)
        verdict = self._evaluator.verdict(result, stopped, seconds)
        if not counts:
            verdict["losses"] = None
        known = {} if total is None or total == self._trials[number].total else {"total": total}
        return self._record("told", number, {**verdict, **known})

    # The log

    def note(self, context: SchedulerContext, decisions: Sequence[Decision]) -> None:
        """Keep what a scheduler was asked and what it decided, so that `modelopt replay` can ask it again."""
        if not decisions:
            return
        payload: Decided = {
            "waiting": list(context.waiting),
            "slots": context.slots,
            "left": context.left,
            "planned": context.planned,
            "ending": context.ending,
            "decisions": plain(decisions),
        }
        if context.open_ended:
            payload = {**payload, "open_ended": True, "told": context.declared_total, "committed": context.committed}
        self._store.append("decided", NO_TRIAL, payload, commit=False)

    def follow(self, kind: str, number: int, payload: Any) -> None:
        """Take over an event of another study's log, unasked. Raises ValueError when it makes no sense here."""
        try:
            problem = self.space.problem(payload["params"]) if kind == "queued" else None
            if problem is None:
                self._record(kind, number, payload, commit=False)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if problem is not None:
            raise ValueError(problem)

    def _expect(self, trial: Trial | int, *states: State) -> int:
        number = trial.number if isinstance(trial, Trial) else trial
        if not 0 <= number < len(self._trials):
            raise UsageError(f"there is no trial {number}; the study has {len(self._trials)}")
        state = self._trials[number].state
        if state not in states:
            raise UsageError(f"trial {number} is {state}, but must be {' or '.join(states)}; ask for a new one")
        return number

    def _record(self, kind: str, number: int, payload: Mapping[str, object], *, commit: bool = True) -> Trial:
        try:
            written = self._store.append(kind, number, payload, commit=commit)
        except TypeError as error:
            text = "use plain numbers, text, booleans, null, lists or mappings"
            raise InputError(f"trial {number}: {error}; {text}") from None
        self._table.apply(kind, number, written)
        return self._trials[number]


def _ruled(space: Space | Mapping[str, Any], rules: str | Sequence[str]) -> Space:
    spec = space.to_spec() if isinstance(space, Space) else plain_value(space)  # bounds may come from a data frame
    return Space.from_spec(spec, [rules] if isinstance(rules, str) else rules)
