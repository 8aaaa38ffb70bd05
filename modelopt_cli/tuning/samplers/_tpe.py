"""Parzen estimators of good and of other settings, and the suggestions by them.

Bergstra et al., NIPS 2011, "Algorithms for hyper-parameter optimization", section 4; multivariate kernels: Falkner et
al., ICML 2018, "BOHB", section 3.2. A kernel a setting: truncated normal in each number, a share that stays in each
category; beside them a uniform one. A parameter that does not count in a kernel's setting is uniform there.

Suggested is, of draws from the estimator of good settings, what is rarest among the others. Where constraints were
broken or trials failed, the probability that a setting is feasible counts, too: only then a Gaussian process is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr, ndtri

from modelopt_cli.tuning.samplers._common.encoding import Encoding, Points, encoded
from modelopt_cli.tuning.samplers._common.history import History
from modelopt_cli.tuning.samplers._common.untried import suggest_by_model
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.ranking import by_front
from modelopt_cli.tuning.trials.trial import Params, Trial

if TYPE_CHECKING:
    from modelopt_cli.tuning.samplers._gp.acquisition import Feasibility

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_DRAWS = 256  # points drawn from the estimator of good settings
_RULED_DRAWS = 1024  # where some of them will break a rule
_OTHERS = 1000  # settings that the estimator of those that are not good has at most


def suggest(
    space: Space,
    trials: Sequence[Trial],
    rng: np.random.Generator,
    n: int,
    initial_points: int,
    good: float,
    most_good: int,
) -> list[Params]:
    """`n` settings; see Sampler.suggest and Tpe. Each counts as under way for the ones after it."""
    encoding = Encoding(space)

    def propose(history: History, suggested: Sequence[Params]) -> Iterator[Params]:
        return Estimators(encoding, history, suggested, rng, good, most_good, daring=True).promising()

    return suggest_by_model(propose, initial_points, encoding.priors, space, trials, rng, n)


class Estimators:
    """Of good settings and of the others, those under way among the latter."""

    def __init__(
        self,
        encoding: Encoding,
        history: History,
        suggested: Sequence[Params],
        rng: np.random.Generator,
        good: float = 0.15,
        most_good: int = 25,
        whole: History | None = None,
        daring: bool = False,
    ) -> None:
        """`suggested`: settings under way beside those of the history. `good`, `most_good`: see Tpe.

        `whole`: the history that tells what is feasible, where `history` is a part of it. `daring`: see Feasibility.
        """
        self._encoding, self._rng, self._trials, self._daring = encoding, rng, len(history.y), daring
        finished = encoded(encoding.space, history.params)
        under_way = np.array([encoding.space.encode(params) for params in [*history.pending, *suggested]])
        codes = np.concatenate([finished, under_way.reshape(-1, encoding.space.dim)])
        ranks = history.y if history.objectives == 1 else ranked(history.losses)
        order = np.argsort(ranks, kind="stable")
        count = min(max(int(np.ceil(good * len(order))), 2), most_good)
        self._good = self._estimator(codes[order[:count]])
        rest = np.concatenate([order[count:], np.arange(len(order), len(codes))]).astype(int)
        if len(rest) > _OTHERS:  # what is rare among some of them is rare among all
            rest = rng.choice(rest, size=_OTHERS, replace=False)
        self._others = self._estimator(codes[rest])
        self._feasibility = self._feasibility_of(history if whole is None else whole)

    def _estimator(self, codes: Array) -> Parzen:
        encoding = self._encoding
        return Parzen(encoding.points(codes), encoding.absent(codes), encoding.sizes)

    def _feasibility_of(self, history: History) -> Feasibility | None:
        """None while every trial was feasible."""
        if not (history.margins < 0).any():
            return None
        from modelopt_cli.tuning.samplers._gp.acquisition import Feasibility

        codes = encoded(self._encoding.space, history.params)
        return Feasibility(self._encoding, codes, history.margins, self._rng)

    def promising(self) -> Iterator[Params]:
        """Settings by descending merit."""
        return map(self._encoding.space.decode, self.promising_codes())

    def promising_codes(self) -> Array:
        """(M, dim), snapped, by descending merit."""
        encoding, space = self._encoding, self._encoding.space
        drawn = self._good.sample(self._rng, _RULED_DRAWS if space.rules else _DRAWS)
        codes = encoding.snap(encoding.priors.with_draws(encoding.unsnapped(drawn), self._rng))
        if space.rules:
            codes = codes[space.kept(codes)]
            if not len(codes):
                return np.empty((0, space.dim))
        points, absent = encoding.points(codes), encoding.absent(codes)
        merit = self._good.log_density(points, absent) - self._others.log_density(points, absent)
        if self._feasibility is not None:
            merit = merit + self._feasibility.log_merit(codes, daring=self._daring)
        merit = encoding.priors.weighted(merit, codes, self._trials)
        return np.asarray(codes[np.argsort(-merit, kind="stable")])


def ranked(losses: Array) -> Array:
    """(N,) of losses (N, objectives), the best 0: front by front (trials/ranking.py)."""
    ranks = np.empty(len(losses))
    ranks[by_front([tuple(row) for row in losses.tolist()])] = np.arange(len(losses))
    return ranks


class Parzen:
    """A mixture of a kernel at each of K settings, and the uniform distribution, all of equal weight."""

    def __init__(self, points: Points, absent: Mask, sizes: NDArray[np.int64]) -> None:
        """`absent` (K, P): numbers that do not count; `sizes` (Q,): values of each category."""
        self._points, self._absent, self._sizes = points, absent, sizes
        count = max(len(points), 1)
        dimension = max(points.numbers.shape[1] + points.categories.shape[1], 1)
        self._width = max(0.2 * count ** (-1.0 / (dimension + 4)), 0.01)
        self._stay = 1.0 - min(0.5, 1.0 / (1.0 + count))  # a category's share that stays, the rest is spread evenly
        mixture = np.ones(len(points) + 1)
        self._weights = mixture / mixture.sum()

    def sample(self, rng: np.random.Generator, count: int) -> Points:
        """Settings (count,), every parameter with a value whether it counts or not."""
        k = len(self._points)
        chosen = rng.choice(k + 1, size=count, p=self._weights)
        uniform = chosen == k
        kernel = np.where(uniform, 0, chosen)
        p, q = self._points.numbers.shape[1], self._points.categories.shape[1]
        numbers = rng.random((count, p))
        if k and p:
            centres = self._points.numbers[kernel]
            low, high = ndtr((0.0 - centres) / self._width), ndtr((1.0 - centres) / self._width)
            drawn = centres + self._width * ndtri(np.clip(low + numbers * (high - low), 1e-12, 1 - 1e-12))
            free = uniform[:, None] | self._absent[kernel]
            numbers = np.where(free, numbers, np.clip(drawn, 0.0, 1.0))
        categories = rng.integers(0, np.maximum(self._sizes, 1), size=(count, q))
        if k and q:
            own = self._points.categories[kernel]
            stays = (rng.random((count, q)) < self._stay) & ~uniform[:, None] & (own >= 0)
            categories = np.where(stays, own, categories)
        return Points(numbers, categories)

    def log_density(self, points: Points, absent: Mask) -> Array:
        """(M,) of settings; numbers that do not count in one (`absent`) add nothing to it."""
        m, k = len(points), len(self._points)
        logs = np.zeros((m, k + 1))
        for d in range(points.numbers.shape[1]):
            centres = self._points.numbers[None, :, d]
            z = (points.numbers[:, d, None] - centres) / self._width
            mass = np.log(ndtr((1.0 - centres) / self._width) - ndtr((0.0 - centres) / self._width))
            normal = -0.5 * z * z - np.log(self._width) - 0.5 * np.log(2.0 * np.pi) - mass
            skip = absent[:, d, None] | self._absent[None, :, d]
            logs[:, :k] += np.where(skip, 0.0, normal)
        for c, size in enumerate(self._sizes):
            own, kernel = points.categories[:, c, None], self._points.categories[None, :, c]
            spread = (1.0 - self._stay) / size
            kept = np.log(np.where(own == kernel, self._stay + spread, spread))
            uniform = -np.log(size)
            logs[:, :k] += np.where(own < 0, 0.0, np.where(kernel < 0, uniform, kept))
            logs[:, k] += np.where(own[:, 0] < 0, 0.0, uniform)
        return np.asarray(logsumexp(logs + np.log(self._weights)[None], axis=1))
