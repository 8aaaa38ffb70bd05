"""CMA-ES as a function of a history: trials, in order of number, are its generations, and each is told once.

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

import cmaes
import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import share_bounds
from modelopt_cli.tuning.samplers._common.history import fitness, losses_of
from modelopt_cli.tuning.samplers._common.untried import Untried, endless, sequence_seed
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, Trial

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_NARROW = 1e-6  # of an axis: a generation narrower than that has converged
_REMEMBERED = 64  # latest states of a search that late trials may lead back to
_SEARCHES = 4


class Axes:
    """Settings as points for CMA-ES: numbers on axes in [0, 1], discrete ones spread over their share, and categories.

    Parameters with one value are neither.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        free = [position for position, parameter in enumerate(space.parameters) if parameter.size > 1]
        self.numbers = [position for position in free if space.parameters[position].ordered]
        self.categories = [position for position in free if position not in set(self.numbers)]
        self.sizes = [int(space.parameters[position].size) for position in self.categories]

    def bounds(self, codes: Array) -> tuple[Array, Array]:
        """(N, P) each: where the share of [0, 1] that a number's value has begins and ends (the same: continuous)."""
        pairs = [share_bounds(self.space.parameters[position], codes[:, position]) for position in self.numbers]
        if not pairs:
            return np.empty((len(codes), 0)), np.empty((len(codes), 0))
        low, high = (np.stack(side, axis=1) for side in zip(*pairs, strict=True))
        return low, high

    def chosen(self, codes: Array) -> Index:
        """(N, Q): index of each category's value, -1 where it does not count."""
        own = codes[:, self.categories] * np.array(self.sizes)
        return np.where(np.isnan(own), -1, np.floor(np.nan_to_num(own))).astype(np.int64)

    def codes(self, numbers: Array, chosen: Index) -> Array:
        """(dim,) of one point: numbers (P,), categories (Q,)."""
        codes = np.full(self.space.dim, 0.5)
        codes[self.numbers] = numbers
        codes[self.categories] = (chosen + 0.5) / np.array(self.sizes)
        return codes


@dataclass(frozen=True)
class State:
    """Where numbers and categories are drawn from. `strategy`: None when there are no numbers."""

    strategy: cmaes.CMA | None  # only its copies are asked and told
    probabilities: tuple[Array, ...]  # of each category, (values,), sums to 1
    population: int
    sigma: float  # of a strategy that begins anew
    generation: int = 0
    count: int = 0  # trials that the strategy has been told

    def draws(self, axes: Axes, rng: np.random.Generator) -> Iterator[Params]:
        """Settings, without end."""
        strategy = self._seeded(rng)
        while True:
            numbers = strategy.ask() if strategy is not None else np.empty(0)
            chosen = [int(rng.choice(len(share), p=share)) for share in self.probabilities]
            yield axes.space.decode(axes.codes(numbers, np.array(chosen, dtype=np.int64)))

    def _seeded(self, rng: np.random.Generator) -> cmaes.CMA | None:
        """A copy of the strategy with random numbers of its own."""
        strategy = copy.deepcopy(self.strategy)
        if strategy is not None:
            strategy.reseed_rng(int(rng.integers(2**31)))
        return strategy

    def after(self, axes: Axes, trials: Sequence[Trial], seed: int) -> State:
        """The next state: `trials` are a generation. One that has converged begins anew, elsewhere, with more."""
        rng = np.random.default_rng((seed, self.generation))
        codes = np.stack([axes.space.encode(trial.params) for trial in trials])
        ranks = _ranks(trials)
        moved = moved_probabilities(self.probabilities, axes.chosen(codes)[np.argsort(ranks, kind="stable")])
        following = replace(self, probabilities=moved, generation=self.generation + 1, count=self.count + len(trials))
        if self.strategy is None:
            return following
        low, high = axes.bounds(codes)
        absent = np.isnan(low)
        points = low + rng.random(low.shape) * (high - low)  # any point of a discrete value's share may stand for it
        if absent.any():  # what does not count is as the strategy would have drawn it, and moves nothing
            copied = self._seeded(rng)
            assert copied is not None
            points = np.where(absent, np.stack([copied.ask() for _ in trials]), points)
        strategy = copy.deepcopy(self.strategy)
        strategy.tell(list(zip(points, ranks.tolist(), strict=True)))
        width = np.nan_to_num(high - low).max(axis=0) * (1.0 + 1e-9)
        if (np.ptp(points, axis=0) <= np.maximum(width, _NARROW)).all() or strategy.should_stop():
            size = 2 * self.population
            strategy = cmaes.CMA(rng.random(len(width)), self.sigma, _bounds(len(width)), population_size=size)
            return replace(following, strategy=strategy, population=size, probabilities=_even(axes))
        return replace(following, strategy=strategy)


def begin(axes: Axes, earlier: Sequence[Trial], sigma: float, population: int | None) -> State:
    """The first state: the middle of the space, or where `earlier` trials were good."""
    p = len(axes.numbers)
    size = population or 4 + math.floor(3 * math.log(max(p + len(axes.categories), 1)))
    mean, spread, covariance, probabilities = np.full(p, 0.5), sigma, None, _even(axes)
    known = [trial for trial in earlier if losses_of(trial) is not None]
    if len(known) >= size:
        ranks = _ranks(known)
        codes = np.stack([axes.space.encode(trial.params) for trial in known])
        good = np.argsort(ranks, kind="stable")[: max(3, len(known) // 10)]
        probabilities = _counted(axes, axes.chosen(codes[good]))
        if 0 < p <= 100:
            points = np.nan_to_num(codes[good][:, axes.numbers], nan=0.5)
            mean, spread, covariance = cmaes.get_warm_start_mgd([(point, 0.0) for point in points], gamma=1.0)
            mean = np.clip(mean, 0.0, 1.0)
    strategy = cmaes.CMA(mean, spread, _bounds(p), population_size=size, cov=covariance) if p else None
    return State(strategy, probabilities, size, sigma)


def _bounds(p: int) -> Array:
    return np.tile([0.0, 1.0], (p, 1))


def _even(axes: Axes) -> tuple[Array, ...]:
    return tuple(np.full(size, 1.0 / size) for size in axes.sizes)


def _counted(axes: Axes, chosen: Index) -> tuple[Array, ...]:
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
    ranks = {key: float(rank) for rank, key in enumerate(sorted(set(own)))}
    return np.array([ranks[key] for key in own])


def moved_probabilities(probabilities: tuple[Array, ...], chosen: Index) -> tuple[Array, ...]:
    """Moved to the shares of values in the better half of a generation, `chosen` (N, Q) by descending merit.

    Weights and learning rate are those of the rank-mu update (Hansen 2016, eqs. 49 and 58) with as many degrees of
    freedom as the categories have; each value keeps the margin of CatCMA (section 4.3).
    """
    half = len(chosen) // 2
    weights = math.log((len(chosen) + 1) / 2) - np.log(np.arange(1, half + 1))
    weights /= weights.sum()
    mass = 1.0 / float(np.square(weights).sum())
    freedom = sum(len(share) - 1 for share in probabilities)
    rate = min(0.5, 2.0 * (mass - 2.0 + 1.0 / mass) / ((freedom + 2.0) ** 2 + mass))
    following = []
    for share, column in zip(probabilities, chosen[:half].T, strict=True):
        counts = column >= 0
        best = np.bincount(column[counts], weights=weights[counts], minlength=len(share))
        least = (1.0 - 0.73 ** (1.0 / len(probabilities))) / (len(share) - 1)
        moved = np.maximum(share + rate * (best - counts @ weights * share), least)
        following.append(moved / moved.sum())
    return tuple(following)


class Generations:
    """The states of one search, remembered."""

    def __init__(self, axes: Axes, first: State, seed: int) -> None:
        self.axes, self.first, self.seed = axes, first, seed
        self.states, self.trials = [first], list[Trial]()

    def state_after(self, trials: list[Trial]) -> State:
        """After the last complete generation of `trials`, finished and in order of number."""
        same = next((i for i, (a, b) in enumerate(zip(self.trials, trials, strict=False)) if a is not b), len(trials))
        self.states = [state for state in self.states if state.count <= min(same, len(self.trials))] or [self.first]
        self.trials = trials
        state = self.states[-1]
        while state.count + state.population <= len(trials):
            generation = trials[state.count : state.count + state.population]
            state = state.after(self.axes, generation, self.seed)
            self.states = [*self.states[-_REMEMBERED:], state]
        return state


_searches: dict[tuple[Space, float, int | None, int], tuple[list[Trial], Generations]] = {}
"""(space, sigma, population, seed) -> the trials of earlier runs, and the generations; the latest searches only."""


def suggest(
    space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int, sigma: float, population: int | None
) -> list[Params]:
    """`n` settings; see Sampler.suggest."""
    new, seed = Untried(space, trials), sequence_seed(trials, rng)
    earlier = [trial for trial in trials if trial.number < 0]
    key = (space, sigma, population, seed)
    before, generations = _searches.pop(key, ([], None))
    same = len(before) == len(earlier) and all(a is b for a, b in zip(before, earlier, strict=True))
    if generations is None or not same:
        axes = Axes(space)
        generations = Generations(axes, begin(axes, earlier, sigma, population), seed)
    state = generations.state_after([trial for trial in trials if trial.number >= 0 and trial.state.finished])
    _searches[key] = (earlier, generations)
    while len(_searches) > _SEARCHES:
        _searches.pop(next(iter(_searches)))
    suggested = new.take(islice(state.draws(generations.axes, rng), 20 * n + 100), n)
    return suggested + new.fill(endless("sobol", space, seed, len(trials)), n - len(suggested), rng)
