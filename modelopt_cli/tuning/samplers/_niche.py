"""The surroundings of the best setting: what a search that no longer gets better leaves out to find other modes.

Beasley, Bull & Martin 1993, "A sequential niche technique for multimodal function optimization", Evolutionary
Computation 1(2): search again as if the mode that was found were not there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._history import History
from modelopt_cli.tuning.samplers._settings import Settings, encoded

Array = NDArray[np.float64]

_RADIUS = 0.2  # of each range
_NOTICEABLE = 0.01  # of the way from the median to the best
_FEWEST = 4  # trials outside that there is something to learn from


class Niche:
    """The settings with the categories of a centre; where there are no categories, those near it in every number."""

    def __init__(self, settings: Settings, centre: Array) -> None:
        """`centre` (dim,): a snapped code."""
        self._settings = settings
        self._inputs = settings.inputs(centre[None])

    def holds(self, codes: Array) -> NDArray[np.bool_]:
        """(M,) of snapped codes (M, dim)."""
        inputs = self._settings.inputs(codes)
        if inputs.categories.shape[1]:
            return np.asarray((inputs.categories == self._inputs.categories).all(axis=1))
        return np.asarray((np.abs(inputs.numbers - self._inputs.numbers) < _RADIUS).all(axis=1))


def standstill(y: Array) -> int:
    """How many targets (N,), in order, came after the first that is as good as the best, or hardly worse."""
    enough = y <= y.min() + _NOTICEABLE * (np.median(y) - y.min())
    return len(y) - 1 - int(np.argmax(enough))


def beyond(settings: Settings, history: History) -> tuple[Niche, History] | None:
    """The surroundings of the best trial, and the history without them; None: it leaves nothing to learn from."""
    codes = encoded(settings.space, history.params)
    niche = Niche(settings, codes[int(np.argmin(history.y))])
    outside = ~niche.holds(codes)
    rest = history.only(outside)
    return (niche, rest) if outside.sum() >= _FEWEST and rest.informative else None
