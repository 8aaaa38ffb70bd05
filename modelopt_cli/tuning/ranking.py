"""Which trial is better: feasibility first, then the loss; with several objectives, non-domination.

Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", sections III and VI.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelopt_cli.tuning.trial import State, Trial

Losses = tuple[float, ...]


def dominates(a: Losses, b: Losses) -> bool:
    """True when `a` is nowhere worse than `b` and somewhere better (lower)."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def non_dominated(points: Sequence[Losses]) -> list[int]:
    """Indices of the points that no other point dominates, in order."""
    return [i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)]


def usable(trial: Trial) -> bool:
    """True for a trial that ended with a loss for every objective. A stopped one was given up as not worth it."""
    return trial.state is State.COMPLETED and trial.losses is not None


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The best compromises: non-dominated among the feasible ones, or the least infeasible when none is feasible."""
    candidates = [trial for trial in trials if usable(trial)]
    if not candidates:  # every trial was stopped early: the best of them is better than nothing
        candidates = [trial for trial in trials if trial.state is State.STOPPED and trial.losses is not None]
    if not candidates:
        return []
    least = min(trial.violation for trial in candidates)
    feasible = [trial for trial in candidates if trial.violation <= least]
    return [feasible[i] for i in non_dominated([trial.losses or () for trial in feasible])]


def best(trials: Sequence[Trial]) -> Trial | None:
    """The lowest first loss on the front; the earliest of equals."""
    return min(front(trials), key=lambda trial: (trial.losses or (), trial.number), default=None)
