"""What the settings that are under way may come out as, so that another one is judged by what it brings beside them.

Their losses are drawn together from the process, which is then conditioned on each draw, and the improvement that a
setting promises is the mean over the draws (Snoek et al., NIPS 2012, "Practical Bayesian optimization of machine
learning algorithms", section 3.2). That is the joint expected improvement of all of them, less what those under way
promise by themselves, so that the best setting is the next one of a batch that is chosen greedily. Draws are
quasi-random (both: Balandat et al., NeurIPS 2020, "BoTorch"; the logarithm: Ament et al., NeurIPS 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.special import ndtri

from modelopt_cli.tuning.samplers._common.encoding import Points
from modelopt_cli.tuning.samplers._gp.process import JITTER, Process

Array = NDArray[np.float64]

DRAWS = 32  # a power of two, as a Sobol sequence wants it


def drawn_outcomes(process: Process, pending: Points, rng: np.random.Generator, draws: int = DRAWS) -> Array:
    """Losses (Q, draws) of Q settings, noise included, each column a joint draw from the process."""
    from scipy.stats import qmc

    queries = process.at(pending)
    mean, _ = process.posterior(queries)
    covariance = process.joint(queries)
    covariance[np.diag_indices_from(covariance)] += process.noise + JITTER
    even = qmc.Sobol(len(pending), scramble=True, rng=rng).random(draws)
    normal = ndtri(np.clip(even, 1e-12, 1.0 - 1e-12))  # (draws, Q)
    return np.asarray(mean[:, None] + cholesky(covariance, lower=True) @ normal.T)


class Fantasies:
    """A process of N trials, conditioned on S draws of what Q settings under way come out as."""

    def __init__(self, process: Process, points: Points, outcomes: Array, counting: NDArray[np.bool_]) -> None:
        """`points`: all N + Q settings; `outcomes` (Q, S).

        `counting` (N + Q, S): which of them, in which draw, may be what is to be improved on: those that are feasible.
        """
        known = np.repeat(process.targets[:, None], outcomes.shape[1], axis=1)
        self.process = process.with_points(points, np.concatenate([known, outcomes]))
        """One factor of the covariance serves all draws: their targets differ alone."""
        means, _ = self.process.predict(points)
        self.best = np.where(counting, means, np.inf).min(axis=0)
        """(S,): what is to be improved on, the least posterior mean."""
