"""The study: the only stateful object of a search. Ask it for a trial, tell it what came of it.

>>> study = Study({"lr": {"float": [1e-4, 1], "log": True}, "kernel": ["rbf", "linear"]}, "random", "minimize loss")
>>> for _ in range(20):
...     trial = study.ask()
...     trial = study.tell(trial, (trial.params["lr"] - 0.1) ** 2)
>>> study.best.loss < 0.01
True
>>> study.best.params == min(study.trials, key=lambda trial: trial.loss).params
True

Every random choice derives from the study's seed and the trial's number, and a suggestion depends on the events before
it alone: the same tells in the same order give the same asks, in memory, on disk and after a resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.seeds import derive
from modelopt_cli.tuning.analysis.replication import Believed, believed, best_of
from modelopt_cli.tuning.samplers import Sampler
from modelopt_cli.tuning.space.parameters import plain_value
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.study import header
from modelopt_cli.tuning.study.log import TrialLog
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.tuning.study.suggestions import Exhausted, suggest
from modelopt_cli.tuning.study.warm_start import Source
from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.evaluator import ObjectiveEvaluator
from modelopt_cli.tuning.trials.trial import Params, State, Trial

__all__ = ["Exhausted", "Study"]


def _ruled(space: Space | Mapping[str, Any], rules: str | Sequence[str]) -> Space:
    spec = space.to_spec() if isinstance(space, Space) else plain_value(space)  # bounds may come from a data frame
    return Space.from_spec(spec, [rules] if isinstance(rules, str) else rules)


class Study(TrialLog):
    """See the module docstring.

    space: a Space, or its specification as written in a file. sampler, stopper: a name, a mapping with `type`, or the
    strategy itself. objective: `minimize METRIC` or `maximize METRIC`, or several of them. constraints: conditions
    that a best trial must meet (`model.size_bytes <= 100_000`). rules: what must hold between searched values (`depth
    <= width`), so that no other combination is tried; those of a Space stand unless some are given. initial: settings
    to try first. repeats: whether a setting may be tried again where that teaches more than a new one
    (analysis/replication.py). path: a file to keep the study in; an existing one is continued, its interrupted trials
    first, and must have been begun with the same arguments (and `fingerprint`, plain values of the caller's own).
    earlier: runs (directories, study files, or Sources) whose trials the sampler shall know; noted when the study is
    begun, so that one that is continued knows the same, whatever has become of them.
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
        earlier: Sequence[str | Path | Source] = (),
    ) -> None:
        try:
            self.space = space if isinstance(space, Space) and not rules else _ruled(space, rules)
            self.sampler: Sampler = header.strategy("samplers", sampler)
            self.stopper: Stopper | None = None if stopper is None else header.strategy("stoppers", stopper)
            evaluator = ObjectiveEvaluator.parse(objective, constraints)
            if self.sampler.exact:
                self.space.grid()  # raises for what cannot be listed
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.sampler.check()
        self.sampler.check_space(self.space)
        self.seed, self.repeats = seed, repeats
        self._believed: tuple[int, Believed | None] = (0, None)  # trials that had ended then
        store = Store(Path(path) if path is not None else None)
        try:
            self.knowledge = header.begin(self, store, evaluator, fingerprint, earlier)
            super().__init__(self.space, evaluator, store, header.replayed(store))
        except BaseException:
            store.close()
            raise
        self.requeue()
        for params in initial:
            self.queue(params)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Continue the study at `path` with what it was begun with. Raises InputError when there is none."""
        store = Store(Path(path), write=False)
        try:
            meta = header.arguments(store)
        finally:
            store.close()
        return cls(**{name: meta[name] for name in header.NAMES}, path=path)

    @staticmethod
    def read(path: str | Path) -> tuple[list[Trial], dict[str, Any]]:
        """The trials of the study at `path` and what it was begun with, without taking it over; also while it runs."""
        store = Store(Path(path), write=False)
        try:
            return header.replayed(store).trials, store.meta()
        finally:
            store.close()

    @property
    def best(self) -> Trial | None:
        """The best finished trial: feasible before infeasible, then the lowest loss of the first objective.

        Where settings may be repeated, the best trial of the setting that is believed best.
        """
        return best_of(self._trials, self.beliefs)

    @property
    def beliefs(self) -> Believed | None:
        """What is believed of settings that may be repeated; None: they may not, or it is too early."""
        ended = sum(trial.state.finished for trial in self._trials) if self.repeats else 0
        if ended != self._believed[0]:
            self._believed = (ended, believed(self.space, self._trials))
        return self._believed[1]

    @property
    def front(self) -> list[Trial]:
        """The best compromises between several objectives; with one, the best trials that are equal."""
        return ranking.front(self._trials)

    def queue(self, params: Params, origin: str = "initial") -> Trial:
        """Enqueue a setting to be tried before any suggestion; one already there is not added again.

        Raises UsageError when it is no setting of the space.
        """
        params = self.space.plain(params)
        problem = self.space.problem(params)
        if problem is not None:
            raise UsageError(f"{params} cannot be enqueued: {problem}")
        key = self.space.canonical(params)
        if key in self._seen and not self.repeats:
            return next(trial for trial in self._trials if self.space.canonical(trial.params) == key)
        return self._add(params, origin)

    def ask(self, params: Params | None = None, parent: int | None = None) -> Trial:
        """The next trial to run, marked as running: the first queued one, else `params`, else the sampler's suggestion.

        `parent`: the trial whose state, as of its last pause, a trial of `params` goes on from; those may be tried
        already. Raises Exhausted (a LookupError) when every setting of a finite space has been tried, UsageError for
        `params` outside the space, and for a parent that was never paused.
        """
        trial = next((trial for trial in self._trials if trial.state is State.QUEUED), None)
        if trial is None and params is None:
            trial = self._add(suggest(self), "sampler")
        elif trial is None and params is not None:
            params = self.space.plain(params)
            problem = self.space.problem(params)
            if problem is not None:
                raise UsageError(f"{params} cannot be run: {problem}")
            trial = self._add(params, "scheduler", parent)
        assert trial is not None
        return self._record("started", trial.number, {})

    def ask_many(self, n: int) -> list[Trial]:
        """Up to `n` trials to run at the same time; fewer when the space is exhausted, Exhausted when none is left."""
        if n < 1:
            raise UsageError(f"ask_many was given {n}, but must be at least 1")
        found = [self.ask()]
        with suppress(Exhausted):
            while len(found) < n:
                found.append(self.ask())
        return found

    def seen(self, params: Params) -> bool:
        """True when this very setting has been asked for or enqueued before."""
        return self.space.canonical(self.space.plain(params)) in self._seen

    def should_stop(self, trial: Trial | int) -> str | None:
        """Why the study's stopper would end the trial now, None to let it go on (or without a stopper).

        To end it: `study.tell(trial, metrics, stopped=reason)`.
        """
        number = self._expect(trial, State.RUNNING)
        return None if self.stopper is None else self.stopper.reason(self._trials[number], self._trials, self.goals)

    def _add(self, params: Params, origin: str, parent: int | None = None) -> Trial:
        number = len(self._trials)
        payload = {"params": params, "seed": derive(self.seed, "trial", number), "origin": origin}
        if parent is not None:
            born = self._trials[parent].saved
            if born is None:
                raise UsageError(f"trial {parent} was never paused, so no trial can go on from its state")
            payload |= {"parent": parent, "born": born}
        return self._record("queued", number, payload)
