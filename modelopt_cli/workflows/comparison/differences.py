"""Whether one run's metric differs from another's by more than chance: a 95% interval of the difference, by the rule
that what is known allows.

several seeds each      Welch's t-test, which lets the deviations differ (Welch 1947)
several, and one        the one is taken to deviate like the several: its distance from their mean has the standard
                        error s * sqrt(1 + 1/n), with n - 1 degrees of freedom
one each, an accuracy   Newcombe's interval for the difference of two proportions (Newcombe 1998, method 10) of the
                        split's samples. Both are judged on the same samples, which this does not use: it is rather too
                        wide. It is about other samples, not about other seeds
counted, not measured   parameters, bytes, operations: any difference is one
else                    not known
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Literal

from modelopt_cli.core.intervals import wilson
from modelopt_cli.experiment.expected_metrics import is_latency

if TYPE_CHECKING:
    from modelopt_cli.workflows.comparison.runs import ComparedRun

CONFIDENCE = 0.95
Verdict = Literal["better", "worse", "differs", "same", "unclear", "not known", "missing"]
NEEDS_SEEDS = "one seed each; set seeds: 3"

_COUNTED = ("parameters", "nonzero", "size_bytes", "file_bytes", "compressed_bytes", "macs", "flops", "sparsity")
_COUNTED_HEADS = ("model", "pruning")
_TIMES = ("seconds",)


@dataclass(frozen=True)
class Difference:
    """A run's metric less the first run's. `low` and `high`: of the 95% interval; None where it is not known.

    `verdict` is about the run: better or worse than the first one, `differs` where no direction is known, `same`,
    `unclear` (the interval holds 0), `not known`, `missing` (a run has no such metric). `how`: by which rule, or why
    none.
    """

    metric: str
    run: str  # letter
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    how: str


def judged(metric: str, first: ComparedRun, other: ComparedRun, *, higher: bool | None) -> Difference:
    """The difference of `other` to `first`; `higher`: whether more is better, None: not known."""
    before, after = first.metrics.get(metric), other.metrics.get(metric)
    if before is None or after is None:
        lacking = [run.letter for run in (first, other) if metric not in run.metrics]
        return Difference(metric, other.letter, None, None, None, "missing", f"{' and '.join(lacking)}: no such metric")
    difference = after - before
    bounds, how = _interval(metric, first, other)
    if bounds is None:
        verdict: Verdict = "same" if difference == 0 else "not known"
        return Difference(metric, other.letter, difference, None, None, verdict, how)
    low, high = bounds
    return Difference(metric, other.letter, difference, low, high, _verdict(low, high, higher), how)


def _verdict(low: float, high: float, higher: bool | None) -> Verdict:
    if low == high == 0:
        return "same"
    if low <= 0 <= high:
        return "unclear"
    if higher is None:
        return "differs"
    return "better" if (low > 0) is higher else "worse"


def _interval(metric: str, first: ComparedRun, other: ComparedRun) -> tuple[tuple[float, float] | None, str]:
    """(the interval of the difference or None, how it came about or why there is none)"""
    before, after = first.each_seed(metric), other.each_seed(metric)
    difference = other.metrics[metric] - first.metrics[metric]
    counts = f"{len(before)} and {len(after)} seeds"
    repeated = [values for values in (before, after) if len(values) > 1]
    head, _, name = metric.rpartition(".")
    exact = head in _COUNTED_HEADS and name in _COUNTED
    if not any(map(stdev, repeated)) and (repeated or exact):
        # Seeds that agree to the last digit tell nothing of chance, but that the metric is coarse.
        return ((difference, difference), "counted") if exact else (None, "the same for every seed")
    if len(repeated) == 2:
        return welch(before, after), f"Welch's t-test, {counts}"
    if repeated:
        reach = _one_more(repeated[0])
        return (difference - reach, difference + reach), f"one run against the deviation of {len(repeated[0])} seeds"
    if name in _TIMES or name.endswith("_seconds") or is_latency(metric):
        return None, "a time, measured once"
    if name == "accuracy":
        sizes = [run.samples(head) for run in (first, other)]
        if _weighted(first) or _weighted(other):
            return None, f"weighted samples; {NEEDS_SEEDS}"
        if _folded(first, metric) or _folded(other, metric):
            return None, f"a mean over folds; {NEEDS_SEEDS}"
        if sizes[0] and sizes[1]:
            n = f"{sizes[0]:,}" if sizes[0] == sizes[1] else f"{sizes[0]:,} and {sizes[1]:,}"
            proportions = (first.metrics[metric], sizes[0], other.metrics[metric], sizes[1])
            return newcombe(*proportions), f"Newcombe's interval, {n} samples, one seed each"
    return None, NEEDS_SEEDS


def welch(before: list[float], after: list[float]) -> tuple[float, float]:
    """95% interval of mean(after) - mean(before), of two values each or more, some of which deviate."""
    difference = fmean(after) - fmean(before)
    parts = [stdev(values) ** 2 / len(values) for values in (before, after)]
    variance = sum(parts)
    freedom = variance**2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (before, after), strict=True)
    )
    reach = _student(freedom) * math.sqrt(variance)
    return difference - reach, difference + reach


def newcombe(p1: float, n1: int, p2: float, n2: int) -> tuple[float, float]:
    """95% interval of p2 - p1, shares of n1 and n2 independent samples (Newcombe 1998, method 10)."""
    (low1, high1), (low2, high2) = wilson(p1, n1), wilson(p2, n2)
    difference = p2 - p1
    return (
        difference - math.hypot(p2 - low2, high1 - p1),
        difference + math.hypot(high2 - p2, p1 - low1),
    )


def _one_more(values: list[float]) -> float:
    """How far a single value may lie from the mean of others like it, in 95 of 100 cases."""
    return _student(len(values) - 1) * stdev(values) * math.sqrt(1 + 1 / len(values))


def _student(freedom: float) -> float:
    from scipy.special import stdtrit  # scipy.stats takes ten times as long to import

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _weighted(run: ComparedRun) -> bool:
    """Whether samples count by weights, so that an accuracy is no share of them."""
    data = (run.base or {}).get("data")
    return isinstance(data, dict) and data.get("weights") is not None


def _folded(run: ComparedRun, metric: str) -> bool:
    """Whether the metric is a mean over the folds of a cross-validation."""
    return f"{metric}_std" in run.report.metrics
