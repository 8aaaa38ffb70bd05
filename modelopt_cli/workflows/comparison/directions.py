"""Whether more of a metric is better: an accuracy's more, a loss's or a size's less; of others nothing is known."""

from __future__ import annotations

from collections.abc import Iterable

from modelopt_cli.core.conditions import Goal
from modelopt_cli.experiment.expected_metrics import CHANGES, GAP, is_cost
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER, names

_HIGHER = frozenset(
    {*names("classification", 2), *names("multilabel"), *names("regression"), GAP, "acc"} - LOWER_IS_BETTER
)
_LOWER = frozenset({*LOWER_IS_BETTER, "error", "seconds"})
_SIZES = frozenset({"model.parameters", "model.nonzero", "model.size_bytes", "model.compressed_bytes"})
_ENDS = ("_loss", "_error", "_seconds", "_bytes", *CHANGES)  # of names that scripts give, and of what a pruning cost


def higher_is_better(metric: str, goals: Iterable[Goal] = ()) -> bool | None:
    """Whether more of the metric is better; None where nothing tells. What a run was searched by, `goals`, decides."""
    for goal in goals:
        if goal.metric == metric:
            return goal.maximize
    last = metric.rpartition(".")[2]
    if metric in _SIZES or is_cost(metric) or last in _LOWER or last.endswith(_ENDS):
        return False
    return True if last in _HIGHER else None
