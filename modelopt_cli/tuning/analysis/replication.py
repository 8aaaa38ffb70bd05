"""Noisy objectives: which setting is best on average, and when to try one again instead of a new one.

Of noisy results the lowest is the luckiest. A process of all that may be best estimates the noise and gives the
posterior mean of each setting; where `tuning.repeats` allows it, the next trial is the one that is expected to lower
the best mean most, a setting once more or a new one: the knowledge gradient (Frazier, Powell & Dayanik 2009, "The
knowledge-gradient policy for correlated normal beliefs", INFORMS Journal on Computing 21(4), section 3).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.trial import Trial

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params

_FEWEST = 4  # trials that may be best before there is a posterior
_CONTENDERS = 20  # settings that may turn out best
_WORTH = 1e-5  # of the noise: a new setting is not given up for less
_FAR = 1e6  # deviations out; what lies there adds nothing


class Posterior:
    """The loss, without noise, of every setting with trials that may be best (ranking.candidates): one objective."""

    def __init__(self, space: Space, trials: Sequence[Trial], losses: np.ndarray) -> None:
        """`losses` (N,): of the trials, not all equal."""
        import numpy as np

        from modelopt_cli.tuning.analysis.surrogate import Surrogate
        from modelopt_cli.tuning.samplers._common.encoding import encoded
        from modelopt_cli.tuning.samplers._common.history import winsorized
        from modelopt_cli.tuning.trials.divergence import drawn_back

        losses = drawn_back(losses)
        largest = float(np.abs(losses).max())  # so that no difference overflows
        scaled = losses / largest
        groups: dict[Hashable, list[Trial]] = {}
        for trial in trials:
            groups.setdefault(space.canonical(trial.params), []).append(trial)
        self._surrogate = Surrogate(space, [trial.params for trial in trials], largest * winsorized(scaled, scaled))
        self.settings = list(groups.values())
        """The trials of each setting."""
        self._keys = list(groups)
        self._codes = encoded(space, [group[0].params for group in self.settings])
        self.mean, self.deviation = self._surrogate.predict(self._codes)
        """(K,) of each setting's loss, without noise; losses far above the median are winsorized."""
        self.noise = self._surrogate.noise**0.5
        """Standard deviation of a result about its setting's loss."""
        self._space = space

    @property
    def best(self) -> list[Trial]:
        """The trials of the setting with the lowest posterior mean."""
        return self.settings[int(self.mean.argmin())]

    def again(self, proposal: Params, under_way: Sequence[Params]) -> Params | None:
        """The setting that is worth another trial more than `proposal` is worth its own; None: the proposal.

        What is `under_way` is not tried again before it has come out. What teaches next to nothing takes no new one's
        place.
        """
        import numpy as np

        busy = {self._space.canonical(params) for params in under_way}
        order = np.argsort(self.mean, kind="stable")[:_CONTENDERS]
        codes = np.concatenate([self._codes[order], self._space.encode(proposal)[None]])
        mean, covariance = self._surrogate.joint(codes)
        tried, noise = mean[:-1], self._surrogate.noise
        gains = [knowledge_gradient(tried, covariance[:-1, j], covariance[j, j] + noise) for j in range(len(tried))]
        least = knowledge_gradient(mean, covariance[:, -1], covariance[-1, -1] + noise) + tried.min() - mean.min()
        if self._space.canonical(proposal) not in self._keys:
            least = max(least, _WORTH * self.noise)
        for j in np.argsort(gains, kind="stable")[::-1]:
            if gains[j] <= least:
                return None
            contender = int(order[j])
            if self._keys[contender] not in busy:
                return self.settings[contender][0].params
        return None


def posterior(space: Space, trials: Sequence[Trial]) -> Posterior | None:
    """None where there is too little to say anything, or where there are several objectives."""
    import numpy as np

    contenders = ranking.candidates(trials)
    losses = np.array([trial.losses for trial in contenders])  # (N, objectives)
    if len(contenders) < _FEWEST or losses.shape[1] > 1 or not np.ptp(losses) > 0:
        return None
    return Posterior(space, contenders, losses[:, 0])


def best_of(trials: Sequence[Trial], posterior: Posterior | None) -> Trial | None:
    """The best finished trial; with a posterior, of those of the setting with the lowest posterior mean."""
    return ranking.best(trials if posterior is None else posterior.best)


def knowledge_gradient(mean: np.ndarray, covariance: np.ndarray, variance: float) -> float:
    """How much lower the lowest mean (M,) is expected to be after a trial whose result has this `variance`.

    `covariance` (M,): of the result with each setting. Each mean will be a line in a standard normal z. The lowest ones
    make an envelope, each of whose bends at z adds (change of slope) (phi(z) - |z| Phi(-|z|)): exact, for what tells
    contenders from others may lie far out in the tails (Frazier et al. 2009, algorithms 1 and 2).
    """
    import numpy as np

    from modelopt_cli.tuning.samplers._gp.acquisition import log_h

    slopes = covariance / max(variance, 1e-300) ** 0.5
    lowest: list[tuple[float, float]] = []  # (slope, mean) of the lines that are lowest somewhere, from z = inf down
    bends: list[float] = []  # where one takes over from the one before
    for slope, at_zero in sorted(zip(slopes.tolist(), mean.tolist(), strict=True)):
        if lowest and lowest[-1][0] == slope:  # the higher one of two that are parallel
            continue
        while lowest:
            bend = (at_zero - lowest[-1][1]) / (lowest[-1][0] - slope)
            if not bends or bend < bends[-1]:
                bends.append(bend)
                break
            lowest.pop()
            bends.pop()
        lowest.append((slope, at_zero))
    changes = np.diff([slope for slope, _ in lowest])
    return float((changes * np.exp(log_h(-np.minimum(np.abs(bends), _FAR)))).sum())
