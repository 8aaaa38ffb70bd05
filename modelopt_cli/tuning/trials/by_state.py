"""Which trials are in which state, how many have ended, and how many reports there were."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence

from modelopt_cli.tuning.trials.indexed import Index, derived
from modelopt_cli.tuning.trials.trial import State, Trial


class ByState(Index):
    """See the module docstring."""

    def __init__(self) -> None:
        self.reports = 0
        """Points of all curves."""
        self._counts: Counter[State] = Counter()
        self._open: dict[State, list[int]] = {state: [] for state in State if not state.finished}

    def change(self, before: Trial | None, after: Trial) -> None:
        """In constant time, but for the few that are in the same state."""
        self.reports += len(after.curve) - (len(before.curve) if before is not None else 0)
        if before is not None:
            if before.state is after.state:
                return
            self._counts[before.state] -= 1
            if before.state in self._open:
                numbers = self._open[before.state]
                del numbers[bisect_left(numbers, before.number)]
        self._counts[after.state] += 1
        if after.state in self._open:
            insort(self._open[after.state], after.number)

    def count(self, state: State) -> int:
        """How many trials are in a state."""
        return self._counts[state]

    @property
    def finished(self) -> int:
        """How many trials have ended."""
        return sum(count for state, count in self._counts.items() if state.finished)

    def numbers(self, state: State) -> Sequence[int]:
        """Numbers of the trials that are queued, running or paused, ascending. Not to be kept: it changes with them."""
        return self._open[state]


def in_state(trials: Sequence[Trial], state: State) -> list[Trial]:
    """The trials that are queued, running or paused, by number. `trials`: all of a study, from number 0 on."""
    return [trials[number] for number in derived(trials, ByState).numbers(state)]
