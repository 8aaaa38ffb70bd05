"""All fronts of points that come one after another, kept without sorting all anew: what `ranking.fronts` gives.

A new point takes its front by bisection, as there. Points of that front that it dominates move to the next one, where
they push out those that they dominate in turn, until none is pushed out (Li et al. 2017, "Efficient nondomination level
update method for steady-state evolutionary multiobjective optimization", IEEE Transactions on Cybernetics 47).
"""

from __future__ import annotations

from modelopt_cli.tuning.trials.ranking import Losses, dominates


class RunningFronts:
    """Points by key, such as numbers of trials; `fronts[0]` is the best."""

    def __init__(self) -> None:
        self.fronts: list[dict[int, Losses]] = []

    def add(self, key: int, losses: Losses) -> None:
        """Take a point. Points that are equal lie on the same front."""
        rank, moving = self.rank(losses), {key: losses}
        while moving:
            if rank == len(self.fronts):
                self.fronts.append({})
            front = self.fronts[rank]
            pushed = {other: own for other, own in front.items() if any(dominates(new, own) for new in moving.values())}
            for other in pushed:
                del front[other]
            front.update(moving)
            rank, moving = rank + 1, pushed

    def rank(self, losses: Losses) -> int:
        """The first front of which no point dominates these losses: theirs, if they are there."""
        low, high = 0, len(self.fronts)
        while low < high:
            middle = (low + high) // 2
            if any(dominates(other, losses) for other in self.fronts[middle].values()):
                low = middle + 1
            else:
                high = middle
        return low
