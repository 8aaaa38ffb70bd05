"""What the finished trials of a search measured: the numbers that importances and effects are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.core.readable import plural
from modelopt_cli.tuning.samplers._common.history import losses_of
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.divergence import drawn_back
from modelopt_cli.tuning.trials.trial import Params, Trial

Array = NDArray[np.float64]

_LEAST, _LEAST_EACH = 10, 3  # trials, in all and a parameter, from which something is said
_FAR = 6.0


@dataclass(frozen=True, eq=False)
class FinishedTrials:
    """N settings and the loss of one objective at each. Trials without one are left out."""

    params: list[Params]
    losses: Array  # (N,) lower is better

    @classmethod
    def of(cls, trials: Sequence[Trial], objective: int) -> FinishedTrials:
        """Completed and stopped trials, the latter as of their last report.

        Of trials that diverged the loss is the worst of the others, and losses far above those of three quarters of
        the trials (six times as far above the best) are cut there: how badly a training diverged would else be all
        that there is to explain.
        """
        finished = [trial for trial in trials if trial.state.finished]
        rows = [(trial.params, losses[objective]) for trial in finished if (losses := losses_of(trial)) is not None]
        measured = np.array([loss for _, loss in rows], dtype=float)
        if len(measured):
            measured = drawn_back(measured, certain=True)
            best = float(measured.min())
            spread = float(np.quantile(measured, 0.75, method="lower")) - best
            measured = np.minimum(measured, best + _FAR * spread) if spread > 0 else measured
        return cls([params for params, _ in rows], measured)

    def too_few(self, space: Space) -> str:
        """Why nothing can be said, with the figure; empty when it can."""
        needed = max(_LEAST, _LEAST_EACH * space.dim)
        if len(self.losses) < needed:
            ended, dimensions = plural(len(self.losses), "trial"), plural(space.dim, "parameter")
            return f"{ended} ended with a value, but {needed} are needed for {dimensions}"
        if not np.ptp(self.losses) > 0:
            return f"all {len(self.losses)} trials ended with the same value"
        return ""
