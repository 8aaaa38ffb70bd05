"""What metrics are worth: losses by the objectives, violation by the constraints, or failure where one is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import FailureKind, UsageError, did_you_mean
from modelopt_cli.core.references import redacted
from modelopt_cli.tuning.trials.failures import classify, first_line, plain_metrics
from modelopt_cli.tuning.trials.trial import Metrics, State

Result = float | Mapping[str, float] | BaseException
"""What a study is told about a trial: its value, its metrics, or what it failed with."""


@dataclass(frozen=True)
class ObjectiveEvaluator:
    """The objectives and constraints of a study."""

    goals: tuple[Goal, ...]
    constraints: tuple[Condition, ...]

    @classmethod
    def parse(cls, objective: str | Sequence[str], constraints: Sequence[str]) -> ObjectiveEvaluator:
        """Raises ValueError with the rule."""
        goals = tuple(Goal.parse(text) for text in ([objective] if isinstance(objective, str) else objective))
        if not goals:
            raise ValueError("objective is empty; write e.g. 'minimize loss'")
        return cls(goals, tuple(Condition.parse(text) for text in constraints))

    def metrics(self, result: float | Mapping[str, float]) -> Metrics:
        """Plain metrics; a bare number is the only objective's. Raises UsageError."""
        if not isinstance(result, Mapping) and len(self.goals) > 1:
            raise UsageError(f"the study has {len(self.goals)} objectives; tell a mapping of metrics, not {result!r}")
        try:
            return plain_metrics(result if isinstance(result, Mapping) else {self.goals[0].metric: result})
        except ValueError as error:
            raise UsageError(f"{error}; tell numbers, or the exception that the trial failed with") from None

    def losses(self, metrics: Mapping[str, float]) -> list[float] | None:
        """One per objective, lower is better; None when one is missing or not finite."""
        found = [goal.loss(metrics) for goal in self.goals]
        losses = [loss for loss in found if loss is not None]
        return losses if len(losses) == len(found) else None

    def verdict(self, result: Result, stopped: str, seconds: float) -> dict[str, Any]:
        """The `told` event: how the trial ended. `stopped`: why it was ended early, else empty."""
        if isinstance(result, BaseException):
            return _ended(State.FAILED, seconds, *classify(result))
        metrics = self.metrics(result)
        losses = self.losses(metrics)
        if losses is None:
            return {**_ended(State.FAILED, seconds, *self._why_no_loss(metrics)), "metrics": metrics}
        violation = math.fsum(condition.violation(metrics) for condition in self.constraints)
        ended = _ended(State.STOPPED if stopped else State.COMPLETED, seconds, "", first_line(stopped))
        margins = [condition.margin(metrics) for condition in self.constraints]
        return {**ended, "metrics": metrics, "losses": losses, "violation": violation, "margins": margins}

    def _why_no_loss(self, metrics: Metrics) -> tuple[FailureKind, str]:
        goal = next(goal for goal in self.goals if goal.loss(metrics) is None)
        if goal.metric in metrics:
            return "nan", f"{goal.metric} is {metrics[goal.metric]}"
        known = ", ".join(metrics) or "none"
        near = did_you_mean(goal.metric, metrics)
        return "error", f"the objective's metric '{goal.metric}' was not reported; there were: {known}.{near}"


def _ended(state: State, seconds: float, failure: str, reason: str) -> dict[str, Any]:
    ended = {"state": str(state), "failure": failure, "reason": redacted(reason), "seconds": seconds}
    return {**ended, "metrics": {}, "losses": None, "violation": 0.0}
