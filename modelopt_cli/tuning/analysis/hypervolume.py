"""How much a front is worth: the volume of what it dominates, up to a reference point. Points are losses.

Computed exactly, by dimension sweep and exclusive volumes: While et al. 2012, "A fast way of calculating exact
hypervolumes" (WFG). Visited from the worst last loss to the best, a point dominates beyond the better ones a prism: its
height the last loss's distance to the reference, its base the same question with one objective less.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelopt_cli.tuning.trials.ranking import Losses, candidates, front, non_dominated
from modelopt_cli.tuning.trials.trial import State, Trial

_BEHIND = 0.1  # of the front's range: so far behind its worst losses the reference point lies


def hypervolume(points: Sequence[Losses], reference: Losses) -> float:
    """The volume that `points` (N of M losses each) dominate and that itself dominates `reference` (M,).

    Points that are not better than the reference in every loss add nothing.
    """
    inside = [point for point in points if all(x < r for x, r in zip(point, reference, strict=True))]
    kept = [inside[i] for i in non_dominated(inside)]
    if len(reference) == 1:
        return reference[0] - kept[0][0] if kept else 0.0
    if len(reference) == 2:
        return _area(kept, reference)
    kept.sort(key=lambda point: point[-1], reverse=True)
    heights = [reference[-1] - point[-1] for point in kept]
    return sum(
        height * contribution(point[:-1], [other[:-1] for other in kept[at + 1 :]], reference[:-1])
        for at, (point, height) in enumerate(zip(kept, heights, strict=True))
    )


def contribution(point: Losses, others: Sequence[Losses], reference: Losses) -> float:
    """The volume that `point` (M,) adds to that of `others`: what it dominates alone."""
    own = 1.0
    for x, r in zip(point, reference, strict=True):
        own *= max(r - x, 0.0)
    if own == 0.0:
        return 0.0
    shared = [tuple(max(x, y) for x, y in zip(point, other, strict=True)) for other in others]
    return max(own - hypervolume(shared, reference), 0.0)


def _area(kept: Sequence[Losses], reference: Losses) -> float:
    """Of non-dominated points, by one sweep."""
    area, top = 0.0, reference[1]
    for x, y in sorted(kept):
        area += (reference[0] - x) * (top - y)
        top = y
    return area


def reference_of(trials: Sequence[Trial]) -> Losses | None:
    """The reference point of a search that names none: the front's worst losses, and a tenth of its range beyond.

    So every point of the front counts, the extremes too, and a trial that went astray moves nothing (Ishibuchi et al.
    2018, "How to specify a reference point in hypervolume calculation"). Where the front has no range, that of all
    trials that are feasible stands in, else the loss's own size. None: no trial is feasible.
    """
    best = [trial.losses or () for trial in front(trials) if trial.violation == 0]
    everywhere = [trial.losses or () for trial in candidates(trials)]
    if not best:
        return None
    reference = []
    for column, every in zip(zip(*best, strict=True), zip(*everywhere, strict=True), strict=True):
        span = max(column) - min(column) or max(every) - min(every) or abs(max(column)) or 1.0
        reference.append(max(column) + _BEHIND * span)
    return tuple(reference)


def over_trials(trials: Sequence[Trial], reference: Losses) -> list[tuple[int, float]]:
    """(number, hypervolume of the trials up to it) for each one that ended with losses, in order of number.

    Those that violate a constraint add nothing.
    """
    rows: list[tuple[int, float]] = []
    best: list[Losses] = []
    volume = 0.0
    for trial in trials:
        if trial.losses is None or trial.state not in (State.COMPLETED, State.STOPPED):
            continue
        if trial.violation == 0:
            volume += contribution(trial.losses, best, reference)
            best = [*best, trial.losses]
            best = [best[i] for i in non_dominated(best)]
        rows.append((trial.number, volume))
    return rows
