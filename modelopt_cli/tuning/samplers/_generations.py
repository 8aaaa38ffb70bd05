"""CMA-ES as a function of a history: generations are told in order of the trials' numbers, each once.

A state is made from the one before it and a generation, and never changed, so that a replay from the start and one that
goes on from a remembered state give the same; the states of a search are remembered while its trials are the very same
objects. Every random number of a replay derives from (first trial's seed, generation).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import cmaes
import numpy as np

from modelopt_cli.tuning.samplers._axes import Array, Axes
from modelopt_cli.tuning.samplers._history import losses_of
from modelopt_cli.tuning.samplers._mutation import fitness
from modelopt_cli.tuning.samplers._untried import Untried, endless, sequence_seed
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, Trial

_SPREAD = 1e-6  # of an axis: a generation narrower than that has converged
_REMEMBERED = 64  # latest states of a search that late trials may lead back to
_SEARCHES = 4


@dataclass(frozen=True)
class State:
    """Where numbers and categories are drawn from. `strategy`: None when there are no numbers."""

    strategy: Any  # cmaes.CMA; only its copies are asked and told
    shares: tuple[Array, ...]  # of each category, (values,), sums to 1
    population: int
    sigma: float  # of a strategy that begins anew
    generation: int = 0
    told: int = 0  # trials that have been told

    def draws(self, axes: Axes, rng: np.random.Generator) -> Iterator[Params]:
        """Settings, without end."""
        strategy = self._seeded(rng)
        while True:
            numbers = strategy.ask() if strategy is not None else np.empty(0)
            chosen = [int(rng.choice(len(share), p=share)) for share in self.shares]
            yield axes.space.decode(axes.codes(numbers, np.array(chosen, dtype=np.int64)))

    def _seeded(self, rng: np.random.Generator) -> Any:
        strategy = copy.deepcopy(self.strategy)
        if strategy is not None:
            strategy.reseed_rng(int(rng.integers(2**31)))
        return strategy

    def after(self, axes: Axes, trials: Sequence[Trial], seed: int) -> State:
        """The next state: `trials` are a generation. One that has converged begins anew, elsewhere, with more."""
        rng = np.random.default_rng((seed, self.generation))
        codes = np.stack([axes.space.encode(trial.params) for trial in trials])
        ranks = _ranks(trials)
        shares = _moved(self.shares, axes.chosen(codes)[np.argsort(ranks, kind="stable")])
        told = replace(self, shares=shares, generation=self.generation + 1, told=self.told + len(trials))
        if self.strategy is None:
            return told
        low, high = axes.shares(codes)
        absent = np.isnan(low)
        points = low + rng.random(low.shape) * (high - low)  # any point of a discrete value's share may stand for it
        if absent.any():  # what does not count is as the strategy would have drawn it, and moves nothing
            drawn = self._seeded(rng)
            points = np.where(absent, np.stack([drawn.ask() for _ in trials]), points)
        strategy = copy.deepcopy(self.strategy)
        strategy.tell(list(zip(points, ranks.tolist(), strict=True)))
        width = np.nan_to_num(high - low).max(axis=0) * (1.0 + 1e-9)
        if (np.ptp(points, axis=0) <= np.maximum(width, _SPREAD)).all() or strategy.should_stop():
            size = 2 * self.population
            strategy = cmaes.CMA(rng.random(len(width)), self.sigma, _bounds(len(width)), population_size=size)
            return replace(told, strategy=strategy, population=size, shares=_even(axes))
        return replace(told, strategy=strategy)


def begin(axes: Axes, earlier: Sequence[Trial], sigma: float, population: int | None) -> State:
    """The first state: the middle of the space, or where `earlier` trials were good."""
    p = len(axes.numbers)
    size = population or 4 + math.floor(3 * math.log(max(p + len(axes.categories), 1)))
    mean, spread, covariance, shares = np.full(p, 0.5), sigma, None, _even(axes)
    known = [trial for trial in earlier if losses_of(trial) is not None]
    if len(known) >= size:
        ranks = _ranks(known)
        codes = np.stack([axes.space.encode(trial.params) for trial in known])
        good = np.argsort(ranks, kind="stable")[: max(3, len(known) // 10)]
        shares = _counted(axes, axes.chosen(codes[good]))
        if 0 < p <= 100:
            points = np.nan_to_num(codes[good][:, axes.numbers], nan=0.5)
            mean, spread, covariance = cmaes.get_warm_start_mgd([(point, 0.0) for point in points], gamma=1.0)
            mean = np.clip(mean, 0.0, 1.0)
    strategy = cmaes.CMA(mean, spread, _bounds(p), population_size=size, cov=covariance) if p else None
    return State(strategy, shares, size, sigma)


def _bounds(p: int) -> Array:
    return np.tile([0.0, 1.0], (p, 1))


def _even(axes: Axes) -> tuple[Array, ...]:
    return tuple(np.full(size, 1.0 / size) for size in axes.sizes)


def _counted(axes: Axes, chosen: np.ndarray) -> tuple[Array, ...]:
    """Shares among rows of `chosen` (N, Q), one more of each value."""
    counts = [
        np.bincount(column[column >= 0], minlength=size) for column, size in zip(chosen.T, axes.sizes, strict=True)
    ]
    return tuple((count + 1.0) / (count + 1.0).sum() for count in counts)


def _ranks(trials: Sequence[Trial]) -> Array:
    """0 for the best; feasible before infeasible, failures last; equal for equal ones. By constrained fronts."""
    pairs = [(trial, losses_of(trial)) for trial in trials]
    known = [(trial, losses) for trial, losses in pairs if losses is not None]
    keys = iter(fitness(known))
    own: list[tuple[float, ...]] = [(1.0,) if losses is None else (0.0, *next(keys)) for _, losses in pairs]
    place = {key: float(rank) for rank, key in enumerate(sorted(set(own)))}
    return np.array([place[key] for key in own])


def _moved(shares: tuple[Array, ...], chosen: np.ndarray) -> tuple[Array, ...]:
    """Shares, moved to those among the better half of a generation, `chosen` (N, Q) by descending merit.

    Weights and learning rate are those of the rank-mu update (Hansen 2016, eqs. 49 and 58) with as many degrees of
    freedom as the categories have; each value keeps the margin of CatCMA (section 4.3).
    """
    half = len(chosen) // 2
    weights = math.log((len(chosen) + 1) / 2) - np.log(np.arange(1, half + 1))
    weights /= weights.sum()
    mass = 1.0 / float(np.square(weights).sum())
    freedom = sum(len(share) - 1 for share in shares)
    rate = min(0.5, 2.0 * (mass - 2.0 + 1.0 / mass) / ((freedom + 2.0) ** 2 + mass))
    found = []
    for share, column in zip(shares, chosen[:half].T, strict=True):
        counts = column >= 0
        best = np.bincount(column[counts], weights=weights[counts], minlength=len(share))
        least = (1.0 - 0.73 ** (1.0 / len(shares))) / (len(share) - 1)
        moved = np.maximum(share + rate * (best - counts @ weights * share), least)
        found.append(moved / moved.sum())
    return tuple(found)


class _Course:
    """The states of one search, remembered."""

    def __init__(self, axes: Axes, first: State, seed: int) -> None:
        self.axes, self.first, self.seed = axes, first, seed
        self.states, self.trials = [first], list[Trial]()

    def state_after(self, trials: list[Trial]) -> State:
        """After the last complete generation of `trials`, finished and in order of number."""
        same = next((i for i, (a, b) in enumerate(zip(self.trials, trials, strict=False)) if a is not b), len(trials))
        self.states = [state for state in self.states if state.told <= min(same, len(self.trials))] or [self.first]
        self.trials = trials
        state = self.states[-1]
        while state.told + state.population <= len(trials):
            generation = trials[state.told : state.told + state.population]
            state = state.after(self.axes, generation, self.seed)
            self.states = [*self.states[-_REMEMBERED:], state]
        return state


_courses: dict[Any, tuple[list[Trial], _Course]] = {}


def suggest(
    space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int, sigma: float, population: int | None
) -> list[Params]:
    """`n` settings; see Sampler.suggest."""
    new, seed = Untried(space, trials), sequence_seed(trials, rng)
    earlier = [trial for trial in trials if trial.number < 0]
    key = (space, sigma, population, seed)
    before, course = _courses.pop(key, ([], None))
    if course is None or len(before) != len(earlier) or any(a is not b for a, b in zip(before, earlier, strict=True)):
        axes = Axes(space)
        course = _Course(axes, begin(axes, earlier, sigma, population), seed)
    state = course.state_after([trial for trial in trials if trial.number >= 0 and trial.state.finished])
    _courses[key] = (earlier, course)
    while len(_courses) > _SEARCHES:
        _courses.pop(next(iter(_courses)))
    found = new.take(islice(state.draws(course.axes, rng), 20 * n + 100), n)
    return found + new.fill(endless("sobol", space, seed, len(trials)), n - len(found), rng)
