"""What metrics are worth: losses by the objectives, violation by the constraints, or failure where one is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, SupportsFloat, TypedDict

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.core.errors import FailureKind, UsageError, did_you_mean
from modelopt_cli.core.references import redacted
from modelopt_cli.tuning.trials.failures import classify, first_line, plain_metrics
from modelopt_cli.tuning.trials.trial import Metrics, State

Result = SupportsFloat | Mapping[str, SupportsFloat] | BaseException
"""What a study is told about a trial: its value, its metrics, or what it failed with."""


class Verdict(TypedDict):
    """How a trial ended, as plain values; what they mean: Trial."""

    state: str
    failure: str
    reason: str
    seconds: float
    metrics: Metrics
    losses: list[float] | None
    violation: float
    margins: NotRequired[list[float | None]]
    """Not of failed trials, nor in logs of older versions."""


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

    def metrics(self, result: SupportsFloat | Mapping[str, SupportsFloat]) -> Metrics:
        """Plain metrics; a bare number is the only objective's. Raises UsageError."""
        if not isinstance(result, Mapping) and len(self.goals) > 1:
            raise UsageError(f"the study has {len(self.goals)} objectives; tell a mapping of metrics, not {result!r}")
        try:
            return plain_metrics(result if isinstance(result, Mapping) else {self.goals[0].metric: result})
        except ValueError as error:
            raise UsageError(f"{error}; tell numbers, or the exception that the trial failed with") from None

    def losses(self, metrics: Mapping[str, float]) -> list[float] | None:
        """One per objective, lower is better; None when one is missing or not finite."""
        losses = [loss for goal in self.goals if (loss := goal.loss(metrics)) is not None]
        return losses if len(losses) == len(self.goals) else None

    def violation(self, metrics: Mapping[str, float]) -> float:
        """By how much the constraints are missed, all together; 0: they are met."""
        return math.fsum(condition.violation(metrics) for condition in self.constraints)

    def verdict(self, result: Result, stopped: str, seconds: float) -> Verdict:
        """How the trial ended. `stopped`: why it was ended early, else empty."""
        if isinstance(result, BaseException):
            return _failed(*classify(result), seconds, {})
        metrics = self.metrics(result)
        losses = self.losses(metrics)
        if losses is None:
            return _failed(*self._why_no_loss(metrics), seconds, metrics)
        return {
            "state": str(State.STOPPED if stopped else State.COMPLETED),
            "failure": "",
            "reason": redacted(first_line(stopped)),
            "seconds": seconds,
            "metrics": metrics,
            "losses": losses,
            "violation": self.violation(metrics),
            "margins": [condition.margin(metrics) for condition in self.constraints],
        }

    def _why_no_loss(self, metrics: Metrics) -> tuple[FailureKind, str]:
        goal = next(goal for goal in self.goals if goal.loss(metrics) is None)
        if goal.metric in metrics:
            return "nan", f"{goal.metric} is {metrics[goal.metric]}"
        known = ", ".join(metrics) or "none"
        near = did_you_mean(goal.metric, metrics)
        return "error", f"the objective's metric '{goal.metric}' was not reported; there were: {known}.{near}"


def _failed(failure: FailureKind, reason: str, seconds: float, metrics: Metrics) -> Verdict:
    return {
        "state": str(State.FAILED),
        "failure": failure,
        "reason": redacted(reason),
        "seconds": seconds,
        "metrics": metrics,
        "losses": None,
        "violation": 0.0,
    }
