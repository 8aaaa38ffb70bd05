"""What a smaller model must be: `--target "model.flops <= 50%"` and `--max-drop "validation.accuracy 0.01"`.

A target is a bound on what the model costs, absolute or as a share of what the given model costs. A drop is how much
worse a metric on validation may be than the given model's; of a loss or an error, by how much it may rise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from modelopt_cli.core.conditions import METRIC, Condition
from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.core.readable import number
from modelopt_cli.experiment.expected_metrics import CHANGES, RATIO
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER

SIZES = ("model.flops", "model.macs", "model.parameters", "model.size_bytes", "model.file_bytes")
LATENCY = "model.latency_ms"
COSTS = (*SIZES, LATENCY)
"""What a target may be about, and `model.latency_ms_N` for a batch of N."""

_LATENCY = re.compile(rf"{re.escape(LATENCY)}(?:_([1-9]\d*))?")
_NUMBER = r"(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?"
_TARGET = re.compile(rf"^\s*({METRIC})\s*(<=|>=|<|>|==|=)?\s*({_NUMBER})\s*(%?)\s*$")
_DROP = re.compile(rf"^\s*({METRIC})\s*(<=)?\s*({_NUMBER})\s*(%?)\s*$")
_LEAST_DROP = 1e-3  # in shares of which is told how far a drop goes beyond none at all
_ROUNDING = 1e-9  # of differences of metrics, which are means of floating-point numbers


def is_latency(metric: str) -> bool:
    """Whether the metric is a time, which is measured."""
    return _LATENCY.fullmatch(metric) is not None


def check_cost(metric: str, option: str) -> None:
    """Raise UsageError where the metric, which `option` was given, is none of what a model costs."""
    if metric in COSTS or is_latency(metric):
        return
    raise UsageError(
        f"{option}: {metric} is not what a model costs, or not one that taking units out makes less."
        f"{did_you_mean(metric, COSTS)} Use one of {', '.join(COSTS)} (model.latency_ms_64: for a batch of 64)"
    )


@dataclass(frozen=True)
class Target:
    """`metric` at most `bound`; `share`: of what the given model has."""

    metric: str
    bound: float
    share: bool

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises UsageError with the rule for anything but `METRIC <= NUMBER` or `METRIC <= PERCENT%`."""
        match = _TARGET.match(text)
        if match is None:
            raise UsageError(f"--target {text!r}: write what it is about and a bound, e.g. 'model.flops <= 50%'")
        metric, sign, written, percent = match.groups()
        check_cost(metric, f"--target {text!r}")
        if sign != "<=":
            raise UsageError(
                f"--target {text!r}: a target bounds a cost from above; write '{metric} <= {written}{percent}'"
            )
        bound = float(written.replace("_", ""))
        if bound <= 0.0 or not math.isfinite(bound):
            raise UsageError(f"--target {text!r}: the bound must be above 0, for something is left of every model")
        if percent and bound > 100.0:
            raise UsageError(
                f"--target {text!r}: {written}% is more than the given model has; write a percentage below 100"
            )
        return cls(metric, bound / 100.0 if percent else bound, bool(percent))

    def limit(self, dense: float) -> float:
        """The most that the metric may be, where the given model has `dense`."""
        return self.bound * dense if self.share else self.bound

    def met(self, value: float, dense: float) -> bool:
        """Whether a model with this value meets it."""
        return value <= self.limit(dense) * (1.0 + _ROUNDING)

    @property
    def gate(self) -> Condition:
        """The same as a condition on the report's metrics."""
        return Condition(self.metric + RATIO if self.share else self.metric, "<=", self.bound)

    def __str__(self) -> str:
        bound = f"{100.0 * self.bound:g}%" if self.share else f"{self.bound:,.10g}"
        return f"{self.metric} <= {bound}"


@dataclass(frozen=True)
class MaxDrop:
    """`metric`, on validation, may be worse by `amount`, in its own units."""

    metric: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> MaxDrop:
        """Raises UsageError with the rule for anything but `METRIC AMOUNT` of the validation split."""
        match = _DROP.match(text)
        if match is None:
            raise UsageError(
                f"--max-drop {text!r}: write a metric and by how much it may be worse, e.g. 'validation.accuracy 0.01'"
            )
        metric, _, written, percent = match.groups()
        split, _, name = metric.partition(".")
        if split == "test":
            raise UsageError(
                f"--max-drop {text!r}: a model that is chosen by the test split cannot be judged on it any more; it is "
                f"read once, at the end. Write 'validation.{name} {written}{percent}', and hold test by a gate: "
                f"--gate 'test.{_changed(name)} <= {written}{percent}'"
            )
        if split != "validation" or not name:
            raise UsageError(f"--max-drop {text!r}: drops are measured on validation, e.g. 'validation.accuracy 0.01'")
        if percent:
            raise UsageError(
                f"--max-drop {text!r}: a drop is in the metric's own units, not a percentage; 1 point of accuracy is "
                "'validation.accuracy 0.01'"
            )
        amount = float(written.replace("_", ""))
        if not math.isfinite(amount):
            raise UsageError(f"--max-drop {text!r}: the drop must be a finite number, 0 or more")
        return cls(metric, amount)

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss or an error, which rises where the model gets worse."""
        return self.metric.rpartition(".")[2] in LOWER_IS_BETTER

    def drop(self, metrics: Mapping[str, float], dense: Mapping[str, float]) -> float:
        """By how much it is worse than the given model's; infinite where it is no number."""
        difference = dense[self.metric] - metrics.get(self.metric, math.nan)
        drop = -difference if self.lower_is_better else difference
        return math.inf if math.isnan(drop) else drop

    def allowed(self, drop: float) -> bool:
        """Whether so much may be lost."""
        return drop <= self.amount + _ROUNDING

    @property
    def gate(self) -> Condition:
        """The same as a condition on the report's metrics; see `allowed` for rounding."""
        return Condition(f"validation.{_changed(self.metric.partition('.')[2])}", "<=", self.amount + _ROUNDING)

    def check(self, reported: Collection[str]) -> None:
        """Raise UsageError where the given model has no such metric."""
        if self.metric not in reported:
            known = ", ".join(sorted(reported))
            raise UsageError(
                f"--max-drop '{self}': there is no such metric here.{did_you_mean(self.metric, reported)} There are: "
                f"{known or 'none, since the validation split is empty; set data.splits.validation (e.g. 0.2)'}"
            )

    def __str__(self) -> str:
        return f"{self.metric} {self.amount:g}"


def _changed(name: str) -> str:
    return name + CHANGES[name.rpartition(".")[2] in LOWER_IS_BETTER]


@dataclass(frozen=True)
class Demands:
    """All that is asked of the smaller model; `minimized`: the cost by which the smallest is chosen."""

    target: Target | None
    drops: tuple[MaxDrop, ...]
    minimized: str

    @classmethod
    def parse(cls, target: str | None, drops: Sequence[str], minimize: str | None) -> Demands:
        """From the command line's texts. Raises UsageError."""
        if target is None and not drops:
            raise UsageError(
                "say what the smaller model must be: by --target 'model.flops <= 50%', by --max-drop "
                "'validation.accuracy 0.01', or both"
            )
        parsed = None if target is None else Target.parse(target)
        allowed = tuple(MaxDrop.parse(text) for text in drops)
        twice = sorted({one.metric for one in allowed if [each.metric for each in allowed].count(one.metric) > 1})
        if twice:
            raise UsageError(f"--max-drop is given twice for {twice[0]}; say once how much it may drop")
        if minimize is None:
            return cls(parsed, allowed, "model.macs" if parsed is None else parsed.metric)
        if not allowed:
            raise UsageError(
                f"--minimize {minimize} chooses among models whose drop is allowed; add --max-drop, e.g. "
                "--max-drop 'validation.accuracy 0.01' (with --target alone the most accurate model is taken)"
            )
        check_cost(minimize, f"--minimize {minimize}")
        return cls(parsed, allowed, minimize)

    @property
    def all(self) -> tuple[Target | MaxDrop, ...]:
        """Target and drops."""
        return (*(() if self.target is None else (self.target,)), *self.drops)

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs that something is demanded of, each once."""
        return tuple(dict.fromkeys([*([] if self.target is None else [self.target.metric]), self.minimized]))

    def met(self, costs: Mapping[str, float], dense: Mapping[str, float]) -> bool:
        """Whether the target, if there is one, is met by a model of these costs."""
        return self.target is None or self.target.met(costs[self.target.metric], dense[self.target.metric])

    def excess(self, metrics: Mapping[str, float], dense: Mapping[str, float]) -> float:
        """How far the worst of the drops goes beyond what is allowed, in shares of that; 0: all are allowed."""
        over = [(each.drop(metrics, dense) - each.amount) / max(each.amount, _LEAST_DROP) for each in self.drops]
        return 0.0 if self.allowed(metrics, dense) else max(over)

    def allowed(self, metrics: Mapping[str, float], dense: Mapping[str, float]) -> bool:
        """Whether no metric drops by more than it may."""
        return all(one.allowed(one.drop(metrics, dense)) for one in self.drops)

    @property
    def in_words(self) -> str:
        """What is looked for."""
        drops = " and ".join(
            f"{each.metric} {'rises' if each.lower_is_better else 'drops'} by at most {each.amount:g}"
            for each in self.drops
        )
        if self.target is None:
            return f"the least {self.minimized} where {drops}"
        if not self.drops:
            return f"the most accurate model with {self.target}"
        return f"the least {self.minimized} with {self.target}, where {drops}"


def described(metric: str, value: float) -> str:
    """A cost with its unit."""
    if is_latency(metric):
        return f"{value:.3g} ms"
    return f"{number(value)} bytes" if metric.endswith("_bytes") else number(value)
