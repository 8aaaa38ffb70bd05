"""Stoppers: whether a running trial is worth going on with. One file each. (Pruning is for models.)"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from modelopt_cli.core.conditions import Goal
    from modelopt_cli.tuning.trials.trial import Trial

__all__ = ["Stopper"]


class Stopper(Strategy):
    """Base of all stoppers."""

    family: ClassVar[str] = "stoppers"
    sizes: ClassVar[bool] = True
    """False when it makes no sense of a run that trains on growing parts of the data (`tuning.fidelity`)."""

    def metrics(self) -> tuple[str, ...]:
        """Metrics that it looks at in reports, beside the objectives."""
        return ()

    @abstractmethod
    def decide(self, trial: Trial, trials: Sequence[Trial]) -> str | None:
        """The reason to stop `trial` now, or None to let it go on. Called after each report of the trial.

        Looks at `trial.curve` (its last point is new) and at the curves of all `trials`.
        """

    def reason(self, trial: Trial, trials: Sequence[Trial], goals: Sequence[Goal]) -> str | None:
        """`decide`, its reason told by the objectives' own names and values. Overridden where a reason shows these."""
        return self.decide(trial, trials)
