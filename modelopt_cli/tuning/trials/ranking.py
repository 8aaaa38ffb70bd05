"""Which trial is better: feasibility first, then the loss; with several objectives, non-domination.

Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II": constrained domination (section VI),
fronts (III.A, here by Zhang et al. 2015, "An efficient approach to nondominated sorting", with binary search), crowding
(III.B). Points are tuples of losses, lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from modelopt_cli.tuning.trials.trial import State, Trial

Losses = tuple[float, ...]


def dominates(a: Losses, b: Losses) -> bool:
    """True when `a` is nowhere worse than `b` and somewhere better (lower)."""
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def fronts(points: Sequence[Losses]) -> list[list[int]]:
    """Indices of the points, front by front: each point is dominated by one of the front before, by none of its own.

    In the order of their losses no point is dominated by a later one, and the fronts that dominate a point come before
    those that do not; so each point's front is found by bisection.
    """
    layers: list[list[int]] = []
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        low, high = 0, len(layers)
        while low < high:
            middle = (low + high) // 2
            if any(dominates(points[other], points[index]) for other in reversed(layers[middle])):
                low = middle + 1
            else:
                high = middle
        if low == len(layers):
            layers.append([])
        layers[low].append(index)
    return [sorted(front) for front in layers]


def non_dominated(points: Sequence[Losses]) -> list[int]:
    """Indices of the points that no other point dominates, in order."""
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if not any(dominates(points[other], points[index]) for other in kept):
            kept.append(index)
    return sorted(kept)


def crowding(points: Sequence[Losses]) -> list[float]:
    """How alone each point stands among those of its front: the sum, over objectives, of the gap between neighbours.

    Gaps are relative to the front's range in that objective; the extremes get infinity.
    """
    distance = [0.0] * len(points)
    for objective in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: points[i][objective])
        span = points[order[-1]][objective] - points[order[0]][objective]
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distance[here] += (points[after][objective] - points[before][objective]) / span if span else 0.0
    return distance


def by_front(points: Sequence[Losses]) -> list[int]:
    """Indices of the points, front by front, in each the loneliest first (NSGA-II, III.C), ties by index."""
    order: list[int] = []
    for front in fronts(points):
        gaps = crowding([points[index] for index in front])
        order += [index for _, index in sorted(zip((-gap for gap in gaps), front, strict=True))]
    return order


def better(a: Trial, b: Trial) -> bool:
    """Constrained domination: less violation first; of two feasible trials the one whose losses dominate."""
    if a.violation != b.violation:
        return a.violation < b.violation
    return a.violation == 0 and dominates(a.losses or (), b.losses or ())


def candidates(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that may be best: ended with every loss, and with the least violation that any has.

    One that a stopper ended counts, as of its last report: patience ends good trials too.
    """
    ended = [trial for trial in trials if trial.losses is not None and trial.state in (State.COMPLETED, State.STOPPED)]
    least = min((trial.violation for trial in ended), default=0.0)
    return [trial for trial in ended if trial.violation == least]


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The best compromises: non-dominated among the feasible ones, or among the least infeasible when none is."""
    contenders = candidates(trials)
    return [contenders[i] for i in non_dominated([trial.losses or () for trial in contenders])]


def best(trials: Sequence[Trial]) -> Trial | None:
    """The lowest first loss on the front, ties by the next objectives; the earliest of equals."""
    return min(candidates(trials), key=lambda trial: (trial.losses or (), trial.number), default=None)
