"""Rungs: steps at which trials are compared, and who goes on beyond one."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelopt_cli.core.conditions import Goal
from modelopt_cli.tuning.trials.indexed import Index
from modelopt_cli.tuning.trials.ranking import Losses, crowding
from modelopt_cli.tuning.trials.running_fronts import RunningFronts

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial


def crossed(trial: Trial, first: int, factor: int) -> int | None:
    """The rung, first * factor^k, that the trial's last report has reached or just stepped over; None: none."""
    if not trial.curve:
        return None
    step = trial.curve[-1].step
    before = trial.curve[-2].step if len(trial.curve) > 1 else 0
    rung, last = first, None
    while rung <= step:
        last = rung if rung > before else last
        rung *= factor
    return last


def at_rung(trial: Trial, rung: int) -> Losses | None:
    """The losses of the trial's first report at the rung or beyond; None when it has not come there."""
    for point in trial.curve:
        if point.step >= rung:
            return point.losses
    return None


class Reached(Index):
    """The losses of all trials that have come to a rung, each as of its first report there or beyond, in order."""

    follows_voided = False

    def __init__(self, rung: int) -> None:
        self._rung = rung
        self._there: set[int] = set()  # numbers of the trials that came there, with losses or without
        self._sorted: list[Losses] = []  # of one objective
        self._fronts = RunningFronts()  # of several

    def __len__(self) -> int:
        """How many have losses there."""
        return len(self._sorted) or sum(map(len, self._fronts.fronts))

    def change(self, before: Trial | None, after: Trial) -> None:
        """Looks at new points of the curve alone."""
        known = len(before.curve) if before is not None else 0
        if after.number in self._there:
            return
        first = next((point for point in after.curve[known:] if point.step >= self._rung), None)
        if first is None or not self.counts(after):
            return
        self._there.add(after.number)
        if first.losses is not None and len(first.losses) == 1:
            insort(self._sorted, first.losses)
        elif first.losses is not None:
            self._fronts.add(after.number, first.losses)

    def counts(self, trial: Trial) -> bool:
        """Whether the trial is one of those that are compared."""
        return True

    def goes_on(self, own: Losses, factor: int) -> bool:
        """Whether `own`, one of the losses there, is among the best 1 / factor of them (one at least).

        Several objectives are compared by non-domination, and within a front by how alone a point stands (NSGA-II).
        Equal points stand together: trials that share an early stage report the same there, and go on or stop alike.
        How alone a point stands is asked among different ones, so that copies crowd neither each other out, nor what
        lies beside them.
        """
        count = max(1, len(self) // factor)
        if len(own) == 1:
            return bisect_left(self._sorted, own) < count
        rank = self._fronts.rank(own)
        better = sum(map(len, self._fronts.fronts[:rank]))
        if better >= count:
            return False
        front = self._fronts.fronts[rank]
        points = list(dict.fromkeys(front[number] for number in sorted(front)))
        alone = crowding(points)
        own_distance = alone[points.index(own)]
        return better + sum(distance > own_distance for distance in alone) < count


def beaten(own: Losses | None, best: int, of: str, rung: int, goals: Sequence[Goal]) -> str:
    """Why a trial with these losses at a rung stops: its values by the objectives' names (losses where none are given).

    `of`: among whom it was not one of the `best`, e.g. "9 trials".
    """
    if own is None:
        return f"not among the best {best} of {of} at step {rung}"
    named = goals or [Goal("loss", maximize=False)] * len(own)
    values = [f"{goal.metric} {-loss if goal.maximize else loss:.4g}" for goal, loss in zip(named, own, strict=True)]
    if len(values) == 1:
        return f"{values[0]} is not among the best {best} of {of} at step {rung}"
    together = f"{', '.join(values[:-1])} and {values[-1]}"
    return f"{together} are not among the best {best} of {of} at step {rung}, by non-domination"
