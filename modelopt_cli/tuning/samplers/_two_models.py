"""Suggestions by two models of the same trials in turn: a Gaussian process, and a pair of Parzen estimators.

They err in different ways, and each learns from what the other tried. Which one speaks depends on the number of the
trial alone. Both propose points of the cube that are snapped to settings, so mixed and conditional spaces need no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._features import ordered
from modelopt_cli.tuning.samplers._history import History, read
from modelopt_cli.tuning.samplers._improvement import log_expected_improvement
from modelopt_cli.tuning.samplers._neighbours import best_first, near
from modelopt_cli.tuning.samplers._parzen import Parzen
from modelopt_cli.tuning.samplers._process import Process
from modelopt_cli.tuning.samplers._settings import Settings
from modelopt_cli.tuning.samplers._untried import Untried, design, endless, sequence_seed
from modelopt_cli.tuning.space import Choice, Space
from modelopt_cli.tuning.trial import Params, Trial

Array = NDArray[np.float64]
Model = Literal["process", "parzen"]

_CANDIDATES = 1000  # random points of the cube
_NEIGHBOURS = 300  # of the best trials, and again in each round
_WIDTHS = (0.1, 0.03, 0.01, 0.003)  # of the rounds
_DRAWS = 256  # points drawn from the estimator of good settings
_EXPLORED = 6  # every so many trials a process looks at a neglected value of a choice alone
_OTHERS = 1000  # settings that the estimator of those that are not good has at most
_FITTED, _HELD = 100, 400  # trials that hyperparameters are fitted to, and that the process is conditioned on


@dataclass(frozen=True)
class Plan:
    """`models`: in turn, trial by trial. `good`: share of trials that count as good, `most_good` of them at most."""

    models: tuple[Model, ...]
    initial_points: int
    good: float = 0.15
    most_good: int = 25


def suggest(plan: Plan, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
    """`n` settings; see Sampler.suggest. Each counts as under way for the ones after it."""
    new = Untried(space, trials)
    seed = sequence_seed(trials, rng)
    settings = Settings(space)
    start = max(min(plan.initial_points - len(trials), n), 0)
    stop = len(trials) + start
    first = design("sobol", space, seed, len(trials), stop, plan.initial_points, settings.beliefs)
    found = new.take(first, start)
    while len(found) < n:
        history = read(trials, rng)
        if not history.informative:
            break
        turn = len(trials) + len(found)
        model = plan.models[turn % len(plan.models)]
        search = (
            _Process(settings, history, found, rng, _neglected(space, trials, rng) if turn % _EXPLORED == 0 else None)
            if model == "process"
            else _Parzen(plan, settings, history, found, rng)
        )
        best = new.take(search.promising(), 1)
        if not best:
            break
        found += best
    draws = endless("sobol", space, seed, len(trials) + len(found))
    return found + new.fill(draws, n - len(found), rng)


class _Parzen:
    """Draws from an estimator of good settings, the best first by how much rarer they are among the others."""

    def __init__(
        self, plan: Plan, settings: Settings, history: History, also: Sequence[Params], rng: np.random.Generator
    ) -> None:
        self._settings, self._rng = settings, rng
        space = settings.space
        codes = np.stack([space.encode(params) for params in [*history.params, *history.pending, *also]])
        self._trials = len(history.y)
        order = np.argsort(history.y, kind="stable")
        count = min(max(int(np.ceil(plan.good * len(order))), 2), plan.most_good)
        under_way = np.arange(len(order), len(codes))  # nobody else should go there just now
        self._good = self._estimator(codes[order[:count]])
        rest = np.concatenate([order[count:], under_way]).astype(int)
        if len(rest) > _OTHERS:  # what is rare among some of them is rare among all
            rest = rng.choice(rest, size=_OTHERS, replace=False)
        self._others = self._estimator(codes[rest])

    def _estimator(self, codes: Array) -> Parzen:
        settings = self._settings
        return Parzen(settings.inputs(codes), settings.absent(codes), settings.sizes, np.ones(len(codes)))

    def promising(self) -> Iterator[Params]:
        """Settings by descending merit."""
        drawn = self._good.sample(self._rng, _DRAWS)
        points = self._settings.beliefs.with_draws(self._settings.codes(drawn), self._rng)
        codes = self._settings.snap(points)
        inputs, absent = self._settings.inputs(codes), self._settings.absent(codes)
        merit = self._good.log_density(inputs, absent) - self._others.log_density(inputs, absent)
        merit = self._settings.beliefs.weighed(merit, codes, self._trials)
        for index in np.argsort(-merit, kind="stable"):
            yield self._settings.space.decode(codes[index])


class _Process:
    """A process, and the search for the points where it expects most improvement."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        also: Sequence[Params],
        rng: np.random.Generator,
        branch: tuple[int, float] | None = None,
    ) -> None:
        """`branch`: a choice's position and the code of the value that alone is looked at."""
        self._settings, self._rng, self._branch, self._trials = settings, rng, branch, len(history.y)
        space = settings.space
        kept = _subset(history.y, _HELD, rng)
        self._codes = np.stack([space.encode(history.params[index]) for index in kept])
        y = history.y[kept]
        self._y = (y - y.mean()) / (y.std() or 1.0)
        fitted = _subset(self._y, _FITTED, rng)
        hyper = Process(settings.inputs(self._codes[fitted]), self._y[fitted]).hyper
        self._process = Process(settings.inputs(self._codes), self._y, hyper)
        observed = self._mean(self._codes)
        self._best = float(observed.min())  # of a noisy loss not the luckiest one, but the one that is believed best
        under_way = [*history.pending, *also]
        if under_way:
            self._pretend(np.stack([space.encode(params) for params in under_way]))

    def _mean(self, codes: Array) -> Array:
        return self._process.predict(self._settings.inputs(codes))[0]

    def _pretend(self, codes: Array) -> None:
        """Settings under way count with their predicted losses (Ginsbourger et al., 2010, "Kriging believer").

        All at once: what is believed of one does not move the mean, so that one by one gives the same.
        """
        self._y = np.append(self._y, self._mean(codes))
        self._codes = np.concatenate([self._codes, codes])
        self._process = self._process.with_points(self._settings.inputs(self._codes), self._y)

    def promising(self) -> Iterator[Params]:
        """Settings by descending merit, those that lie next to a trial last."""
        codes, merit = self._climb()
        return map(self._settings.space.decode, best_first(codes, merit, self._codes))

    def _climb(self) -> tuple[Array, Array]:
        """Snapped codes (M, dim) and their merit (M,)."""
        leaders = self._codes[np.argsort(self._y, kind="stable")[:5]]
        points = [self._rng.random((_CANDIDATES, self._codes.shape[1])), near(leaders, 0.15, _NEIGHBOURS, self._rng)]
        codes = self._snap(self._settings.beliefs.with_draws(np.concatenate(points), self._rng))
        merit = self._merit(codes)
        for width in _WIDTHS:
            top = codes[np.argsort(-merit, kind="stable")[:10]]
            more = self._snap(near(top, width, _NEIGHBOURS, self._rng))
            codes, merit = np.concatenate([codes, more]), np.concatenate([merit, self._merit(more)])
        return codes, merit

    def _snap(self, points: Array) -> Array:
        if self._branch is not None:
            points[:, self._branch[0]] = self._branch[1]
        return self._settings.snap(points)

    def _merit(self, codes: Array) -> Array:
        mean, deviation = self._process.predict(self._settings.inputs(codes))
        merit = log_expected_improvement(mean, deviation, self._best)
        return self._settings.beliefs.weighed(merit, codes, self._trials)


def _neglected(space: Space, trials: Sequence[Trial], rng: np.random.Generator) -> tuple[int, float] | None:
    """A choice that always counts, by chance, and the code of its value with the fewest trials; None: there is none.

    A good value found early hides what another one is worth at settings that nobody has tried yet.
    """
    choices = [
        (position, parameter)
        for position, parameter in enumerate(space.parameters)
        if isinstance(parameter, Choice) and parameter.condition is None and not ordered(parameter)
    ]
    if not choices:
        return None
    position, parameter = choices[rng.integers(len(choices))]
    counts = np.bincount([parameter.index(trial.params[parameter.path]) for trial in trials], minlength=parameter.size)
    rare = np.flatnonzero(counts == counts.min())
    return position, (int(rng.choice(rare)) + 0.5) / parameter.size


def _subset(y: Array, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """All, or the better half of `most` and a random half of the rest, in order."""
    if len(y) <= most:
        return np.arange(len(y))
    order = np.argsort(y, kind="stable")
    rest = rng.choice(order[most // 2 :], size=most - most // 2, replace=False)
    return np.sort(np.concatenate([order[: most // 2], rest]))
