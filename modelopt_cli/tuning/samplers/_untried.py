"""What several samplers share: leaving out settings that were tried, and space-filling designs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Params, Trial

if TYPE_CHECKING:
    from modelopt_cli.tuning.samplers._belief import Beliefs

Design = Literal["sobol", "lhs", "random"]
_MOST = 100_000  # settings of a finite space that are listed to find an untried one


class Untried:
    """A filter that lets every setting through once, and none that is in the history or breaks a rule."""

    def __init__(self, space: Space, trials: Sequence[Trial]) -> None:
        self.space = space
        finite = space.size < float("inf")
        self.seen: set[Hashable] = {space.canonical(trial.params) for trial in trials} if finite else set()
        # Of an endless space few settings are asked about: to compare each costs far less than keys for all trials.
        self._history = [] if finite else [trial.params for trial in trials]

    def take(self, settings: Iterable[Params], n: int) -> list[Params]:
        """The first `n` new ones of `settings`."""
        found: list[Params] = []
        for params in settings:
            if len(found) >= n:
                break
            if self.space.broken(params) is not None:
                continue
            key = self.space.canonical(params)
            if key not in self.seen:
                self.seen.add(key)
                if not self._in_history(params, key):
                    found.append(params)
        return found

    def _in_history(self, params: Params, key: Hashable) -> bool:
        return any(old == params and self.space.canonical(old) == key for old in self._history)

    def fill(self, draws: Iterator[Params], n: int, rng: np.random.Generator) -> list[Params]:
        """`n` new ones from the endless `draws`; fewer only when every setting of a finite space has been tried."""
        if n <= 0 or len(self.seen) >= self.space.size:
            return []
        found = self.take(islice(draws, 20 * n + 200), n)
        if len(found) < n and self.space.rules:  # points of a design hardly ever keep them
            found += self.take((self.space.sample(rng) for _ in range(20 * n)), n - len(found))
        if len(found) < n and self.space.size < float("inf"):
            rest = [
                params for params in islice(self.space.every(), _MOST) if self.space.canonical(params) not in self.seen
            ]
            found += self.take((rest[i] for i in rng.permutation(len(rest))), n - len(found))
        return found


def sequence_seed(trials: Sequence[Trial], rng: np.random.Generator) -> int:
    """One seed for the whole search, though each ask has its own `rng`: that of the first trial (before it: drawn)."""
    return trials[0].seed if trials else int(rng.integers(2**31))


def design(
    kind: Design, space: Space, seed: int, start: int, stop: int, total: int, beliefs: Beliefs | None = None
) -> Iterator[Params]:
    """Settings `start` .. `stop` - 1 of a design; a Latin hypercube has `total` of them, then repeats.

    `beliefs` shape each second one.

    Sobol: Owen-scrambled (Owen 1998; Joe & Kuo 2008 direction numbers), as in scipy.stats.qmc.
    """
    points = _points(kind, space.dim, seed, start, stop, total)
    return map(space.decode, points if beliefs is None else beliefs.design(points, start))


def _points(kind: Design, dim: int, seed: int, start: int, stop: int, total: int) -> np.ndarray:
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
