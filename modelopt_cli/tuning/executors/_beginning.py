"""How a trial's run is opened: from a state, and where that is lost, from one computed again along its lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import TrialError

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective, Run
    from modelopt_cli.tuning.trials.trial import Params


@dataclass(frozen=True, slots=True)
class Leg:
    """How an ancestor was computed, and up to which step: there the next one went on from its state."""

    params: Params
    seed: int
    until: int


class Beginning:
    """Opens a run of `params`. `legs`: what has to be computed first, from `state` on, oldest first."""

    def __init__(
        self, objective: Objective, params: Params, seed: int, state: Any = None, legs: Sequence[Leg] = ()
    ) -> None:
        self._objective, self._params, self._seed, self._state = objective, params, seed, state
        self._legs = list(legs)
        self._run: Run | None = None
        self.again = bool(legs)

    def next(self) -> Run | None:
        """One step of what comes first; the run itself when nothing does. Raises what opening or computing raises."""
        if not self._legs:
            return self._objective.open(self._params, self._seed, self._state)
        leg = self._legs[0]
        run = self._run = self._run or self._objective.open(leg.params, leg.seed, self._state)
        if run.step < min(leg.until, run.total):
            run.advance(run.step + 1)
        else:
            self._finish(run, leg)
        return None

    def _finish(self, run: Run, leg: Leg) -> None:
        self._state = run.state()
        self._legs.pop(0)
        self.close()
        if run.step < leg.until:
            text = f"it ended at step {run.step}, but had come to step {leg.until} before"
            raise TrialError("error", f"the lost state of the trial it goes on from cannot be computed again: {text}")
        if self._state is None:
            raise TrialError("error", "the trial that it goes on from has no state to go on from")

    def ended(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Tell the objective that the run has come to its end."""
        self._objective.ended(run, self._seed, metrics)

    def close(self) -> None:
        """Free what is held."""
        run, self._run = self._run, None
        if run is not None:
            run.close()
