"""Expected hypervolume improvement: how much of the space that no trial dominates a setting promises to win.

What is not dominated below a reference point is cut into disjoint boxes (l, u]. Of independent normal losses f the
expected volume won is then, in closed form, the sum over boxes of the product over objectives of EI(u) - EI(l), with
EI(t) = E[max(t - f, 0)] (Yang et al. 2019, "Efficient computation of expected hypervolume improvement using box
decomposition algorithms"; Daulton et al., NeurIPS 2020). All in logarithms, so that candidates far behind the front are
still told apart (Ament et al., NeurIPS 2023, section 4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from modelopt_cli.tuning.samplers._improvement import log_h
from modelopt_cli.tuning.trials.ranking import by_front, non_dominated

Array = NDArray[np.float64]
Interval = tuple[float, float]

_BLOCK = 400_000  # boxes times candidates at a time


def boxes(points: Array, reference: Array) -> tuple[Array, Array]:
    """Lower (partly -inf) and upper corners (K, M) of what no point (N, M) dominates up to `reference`."""
    inside = points[(points < reference).all(1)]
    front = inside[non_dominated([tuple(point) for point in inside.tolist()])]
    cut = np.array(_cut([tuple(point) for point in front.tolist()], tuple(reference.tolist())))  # (K, M, 2)
    return cut[..., 0], cut[..., 1]


def _cut(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> list[tuple[Interval, ...]]:
    """Boxes as intervals, one an objective.

    A plane moves up along the last objective. Between two points the cut across it stays the same: that of the points
    passed, with one objective less. A box is a piece of it, from where it came up to where it goes.
    """
    *rest, top = reference
    if not rest:
        return [((-np.inf, min([top, *(point[0] for point in points)])),)]
    found: list[tuple[Interval, ...]] = []
    passed: list[tuple[float, ...]] = []
    since = dict.fromkeys(_cut([], tuple(rest)), -np.inf)
    for point in sorted(points, key=lambda each: each[-1]):
        passed = [*passed, point[:-1]]
        passed = [passed[i] for i in non_dominated(passed)]
        now = _cut(passed, tuple(rest))
        gone = since.keys() - set(now)
        found += [(*box, (since[box], point[-1])) for box in since if box in gone and since[box] < point[-1]]
        since = {box: since.get(box, point[-1]) for box in now}
    return found + [(*box, (low, top)) for box, low in since.items() if low < top]


def log_expected_hypervolume(mean: Array, deviation: Array, lower: Array, upper: Array) -> Array:
    """Logarithm (C,) of the volume of boxes (K, M) that normal losses (C, M) are expected to win."""
    step = max(_BLOCK // max(len(lower), 1), 1)
    parts = [slice(at, at + step) for at in range(0, len(mean), step)]
    return np.concatenate([_log_volume(mean[part], deviation[part], lower, upper) for part in parts])


def _log_volume(mean: Array, deviation: Array, lower: Array, upper: Array) -> Array:
    total = np.zeros((len(lower), len(mean)))
    for m in range(mean.shape[1]):
        edges, place = np.unique(np.concatenate([lower[:, m], upper[:, m]]), return_inverse=True)
        z = (np.maximum(edges, -1e300)[:, None] - mean[None, :, m]) / deviation[None, :, m]
        logs = np.where(np.isinf(edges)[:, None], -np.inf, log_h(np.maximum(z, -1e100)) + np.log(deviation[:, m]))
        below, above = logs[place[: len(lower)]], logs[place[len(lower) :]]
        share = -np.expm1(np.minimum(below - above, 0.0))  # 1 - EI(l) / EI(u)
        total += above + np.log(np.maximum(share, 1e-300))
    return np.asarray(logsumexp(total, axis=0))


def ranked(losses: Array) -> Array:
    """Places (N,) of losses (N, M), the best 0: as ranking.by_front has them."""
    places = np.empty(len(losses))
    places[by_front([tuple(point) for point in losses.tolist()])] = np.arange(len(losses))
    return places
