"""How much a search may still gain: an upper bound on its regret.

Makarova et al., AutoML 2022, "Automatic Termination for Hyperparameter Optimization": with a process of the loss, min
over the evaluated settings of its upper confidence bound, minus min over all settings of its lower one. The bounds lie
sqrt(beta) deviations from the mean, beta = 2 log(D n² pi² / (6 delta)) / 5 with D parameters after n trials,
delta = 0.1, and the division by five that Srinivas et al. 2010 found to do.

It is the process's bound, no proof: in many dimensions few trials make a process too sure, so the first bound comes
after 20 trials, and after 10 a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.analysis.surrogate import Surrogate
from modelopt_cli.tuning.samplers._common.encoding import encoded
from modelopt_cli.tuning.samplers._common.history import losses_of, winsorized
from modelopt_cli.tuning.samplers._common.neighbours import climbed, near
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.divergence import diverged
from modelopt_cli.tuning.trials.trial import Trial

Array = NDArray[np.float64]

_LEAST, _LEAST_EACH = 20, 10  # trials before a bound means anything: in all, a parameter
_DELTA = 0.1
_POINTS, _NEIGHBOURS = 1000, 300  # of the cube, and of the lowest ones in each round
_WIDTHS = (0.15, 0.05, 0.015, 0.005)


def regret_bound(space: Space, finished: Sequence[Trial]) -> float | None:
    """The bound, in the unit of the first objective; None when there are too few trials, or nothing to learn from.

    Settings that failed, diverged or break a constraint count as the worst; losses far above the middle are winsorized,
    as they are for the search, which leaves those near the best as they are.
    """
    if len(finished) < max(_LEAST, _LEAST_EACH * space.dim):
        return None
    rows = [losses_of(trial) if trial.violation == 0 else None for trial in finished]
    good = np.array([losses is not None for losses in rows], dtype=bool)
    known = np.array([losses[0] for losses in rows if losses is not None])
    if len(known):
        usable = ~diverged(known)
        known, good[good] = known[usable], usable
    if len(known) < 2 or np.ptp(known) == 0:
        return None
    losses = np.empty(len(finished))
    losses[good] = winsorized(known, known)
    losses[~good] = losses[good].max()
    surrogate = Surrogate(space, [trial.params for trial in finished], losses, sharp=True)
    width = beta(space.dim, len(finished)) ** 0.5
    evaluated = encoded(space, [trial.params for trial, ok in zip(finished, good, strict=True) if ok])
    mean, deviation = surrogate.predict(evaluated)
    lowest = min(_lowest(surrogate, evaluated, known, width), float((mean - width * deviation).min()))
    return float((mean + width * deviation).min()) - lowest


def beta(parameters: int, trials: int) -> float:
    """The square of how many deviations the bounds lie from the mean."""
    return float(2.0 * np.log(parameters * trials**2 * np.pi**2 / (6.0 * _DELTA)) / 5.0)


def _lowest(surrogate: Surrogate, codes: Array, losses: Array, width: float) -> float:
    """The least lower bound over the space: random points, then neighbours of the lowest."""
    rng = np.random.default_rng(len(codes))

    def depth(points: Array) -> Array:
        mean, deviation = surrogate.predict(points)
        return width * deviation - mean

    leaders = codes[np.argsort(losses, kind="stable")[:5]]
    first = np.concatenate([rng.random((_POINTS, codes.shape[1])), near(leaders, _WIDTHS[0], _NEIGHBOURS, rng)])
    _, depths = climbed(first, surrogate.encoding.snap, depth, _WIDTHS, _NEIGHBOURS, rng, surrogate.encoding.space)
    return -float(depths.max(initial=-np.inf))
