"""What samplers do alike: leave out settings that were tried, fill the space evenly at first, then ask their model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.history import History, read
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.space.tried import Tried
from modelopt_cli.tuning.trials.indexed import IndexedTrials, derived
from modelopt_cli.tuning.trials.trial import CHEAP, Params, Trial

if TYPE_CHECKING:
    from modelopt_cli.tuning.samplers._common.priors import Priors

Design = Literal["sobol", "lhs", "random"]
Propose = Callable[[History, Sequence[Params]], Iterable[Params]]
"""Settings by descending merit, by a history and the settings that were suggested since."""

_MOST = 100_000  # settings of a finite space that are listed to find an untried one


class Untried:
    """A filter that lets every setting through once, and none that is in the history or breaks a rule."""

    def __init__(self, space: Space, trials: Sequence[Trial]) -> None:
        self.space = space
        keyed = isinstance(trials, IndexedTrials) or space.size < float("inf")
        self._tried = derived(trials if keyed else (), Tried, space)
        # Of an endless space few settings are asked about: to compare each costs far less than keys for all trials,
        # where nobody has these already.
        self._unkeyed = [] if keyed else [trial.params for trial in trials]
        self._taken: set[Hashable] = set()

    @property
    def exhausted(self) -> bool:
        """Whether every setting of a finite space is in the history, or was let through."""
        return len(self._tried) + len(self._taken) >= self.space.size

    def take(self, settings: Iterable[Params], n: int) -> list[Params]:
        """The first `n` new ones of `settings`; none behind them is drawn."""
        return list(islice(self._new(settings), max(n, 0)))

    def _new(self, settings: Iterable[Params]) -> Iterator[Params]:
        for params in settings:
            if self.space.broken(params) is not None:
                continue
            key = self.space.canonical(params)
            if not self._seen(params, key):
                self._taken.add(key)
                yield params

    def _seen(self, params: Params, key: Hashable) -> bool:
        if key in self._tried or key in self._taken:
            return True
        return any(old == params and self.space.canonical(old) == key for old in self._unkeyed)

    def fill(self, draws: Iterator[Params], n: int, rng: np.random.Generator) -> list[Params]:
        """`n` new ones from the endless `draws`; fewer only when every setting of a finite space has been tried."""
        if n <= 0 or self.exhausted:
            return []
        taken = self.take(islice(draws, 20 * n + 200), n)
        if len(taken) < n and self.space.rules:  # points of a design hardly ever keep them
            taken += self.take((self.space.sample(rng) for _ in range(20 * n)), n - len(taken))
        if len(taken) < n and self.space.size < float("inf"):
            listed = islice(self.space.every(), _MOST)
            rest = [params for params in listed if not self._seen(params, self.space.canonical(params))]
            taken += self.take((rest[i] for i in rng.permutation(len(rest))), n - len(taken))
        return taken


def suggest_by_model(
    propose: Propose,
    initial_points: int,
    priors: Priors,
    space: Space,
    trials: Sequence[Trial],
    rng: np.random.Generator,
    n: int,
) -> list[Params]:
    """`n` settings: a Sobol sequence for the first `initial_points` trials, then the best new one of each proposal.

    Where there is nothing to learn from yet, and where all that is proposed was tried, the sequence goes on. Trials
    that vary a part of the settings alone make up for half of those first ones at most: of the rest they tell nothing.
    """
    new, seed = Untried(space, trials), sequence_seed(trials, rng)
    partial = sum(trial.origin == CHEAP for trial in trials)
    counted = len(trials) - partial + min(partial, initial_points // 2)
    start = max(min(initial_points - counted, n), 0)
    stop = len(trials) + start
    suggested = new.take(design("sobol", space, seed, len(trials), stop, initial_points, priors), start)
    while len(suggested) < n:
        history = read(trials, rng)
        if not history.informative:
            break
        best = new.take(propose(history, suggested), 1)
        if not best:
            break
        suggested += best
    draws = endless("sobol", space, seed, len(trials) + len(suggested))
    return suggested + new.fill(draws, n - len(suggested), rng)


def sequence_seed(trials: Sequence[Trial], rng: np.random.Generator) -> int:
    """One seed for the whole search, though each ask has its own `rng`: that of the first trial (before it: drawn)."""
    return trials[0].seed if trials else int(rng.integers(2**31))


def design(
    kind: Design, space: Space, seed: int, start: int, stop: int, total: int, priors: Priors | None = None
) -> Iterator[Params]:
    """Settings `start` .. `stop` - 1 of a design; a Latin hypercube has `total` of them, then repeats.

    `priors` shape each second one.

    Sobol: Owen-scrambled (Owen 1998; Joe & Kuo 2008 direction numbers), as in scipy.stats.qmc.
    """
    points = _points(kind, space.dim, seed, start, stop, total)
    return map(space.decode, points if priors is None else priors.design(points, start))


def _points(kind: Design, dim: int, seed: int, start: int, stop: int, total: int) -> NDArray[np.float64]:
    """(stop - start, dim)."""
    if kind == "random":
        return np.random.default_rng(seed).random((stop, dim))[start:]
    from scipy.stats import qmc

    rng = np.random.default_rng(seed)
    if kind == "lhs":
        blocks = [qmc.LatinHypercube(dim, rng=rng).random(total) for _ in range(-(-stop // total))]
        return np.asarray(np.concatenate(blocks)[start:stop])
    sobol = qmc.Sobol(dim, scramble=True, rng=rng)
    return np.asarray(sobol.random(1 << max(stop - 1, 0).bit_length())[start:stop])  # powers of two: no warning


def endless(kind: Design, space: Space, seed: int, start: int, total: int = 1024) -> Iterator[Params]:
    """`design` from `start` on, without end."""
    stop = max(2 * start, 64)
    while True:
        yield from design(kind, space, seed, start, stop, total)
        start, stop = stop, 2 * stop
