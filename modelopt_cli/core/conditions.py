"""Goals (`maximize validation.accuracy`) and conditions (`test.accuracy >= 0.95`), as the user writes them.

Conditions serve as gates (exit code 3) and as constraints of a search.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

METRIC = r"[A-Za-z_][\w\-]*(?:\.[\w\-]+)*"
_GOAL = re.compile(rf"^\s*(maximize|minimize)\s+({METRIC})\s*$")
_NUMBER = r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?%?"
_CONDITION = re.compile(rf"^\s*({METRIC})\s*(<=|>=|<|>|==)\s*({_NUMBER})\s*$")
_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


@dataclass(frozen=True)
class Goal:
    """One objective of a search: a metric and its direction."""

    metric: str
    maximize: bool

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Raises ValueError with the rule when `text` is not `maximize METRIC` or `minimize METRIC`."""
        match = _GOAL.match(text)
        if not match:
            raise ValueError(f"{text!r} is no objective; write 'maximize METRIC' or 'minimize METRIC'")
        return cls(match[2], match[1] == "maximize")

    def loss(self, metrics: Mapping[str, float]) -> float | None:
        """The value to minimise, or None when the metric is absent or not finite."""
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return None
        return -float(value) if self.maximize else float(value)

    def __str__(self) -> str:
        return f"{'maximize' if self.maximize else 'minimize'} {self.metric}"


@dataclass(frozen=True)
class Condition:
    """`METRIC OPERATOR NUMBER`; underscores group digits and a trailing % divides by 100."""

    metric: str
    operator: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Raises ValueError with the rule when `text` is not a condition."""
        match = _CONDITION.match(text)
        if not match:
            raise ValueError(f"{text!r} is no condition; write e.g. 'test.accuracy >= 0.95' (operators: <= >= < > ==)")
        number = match[3].replace("_", "")
        bound = float(number[:-1]) / 100 if number.endswith("%") else float(number)
        return cls(match[1], match[2], bound)

    def met(self, metrics: Mapping[str, float]) -> bool:
        """False also when the metric is missing or NaN."""
        value = metrics.get(self.metric)
        return value is not None and not math.isnan(value) and bool(_OPERATORS[self.operator](value, self.bound))

    def violation(self, metrics: Mapping[str, float]) -> float:
        """How far the metric is on the wrong side (0 when met, inf when missing)."""
        if self.met(metrics):
            return 0.0
        value = metrics.get(self.metric)
        if value is None or math.isnan(value):
            return math.inf
        return abs(value - self.bound) or 5e-324

    def margin(self, metrics: Mapping[str, float]) -> float | None:
        """Distance to the bound, positive on the good side; None when the metric is missing."""
        value = metrics.get(self.metric)
        if value is None or math.isnan(value):
            return None
        distance = value - self.bound
        return {"<": -distance, "<=": -distance, "==": -abs(distance)}.get(self.operator, distance)

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.bound:g}"
