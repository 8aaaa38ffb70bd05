"""What metrics are called, by task: known without computing any, so that a file can be checked before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

LOWER_IS_BETTER = frozenset({"loss", "log_loss", "mae", "mse", "rmse"})
RANKED = frozenset({"roc_auc", "log_loss"})
"""Metrics that need more than predicted labels: probabilities, or (roc_auc) values that rank."""

_NAMES: dict[str, tuple[str, ...]] = {
    "classification": (
        *("accuracy", "balanced_accuracy", "precision", "recall", "f1"),
        *("precision_weighted", "recall_weighted", "f1_weighted", "roc_auc", "log_loss"),
    ),
    "multilabel": ("accuracy", "precision", "recall", "f1", "f1_micro", "f1_weighted", "roc_auc"),
    "regression": ("mae", "mse", "rmse", "r2"),
}
_BINARY = ("precision_binary", "recall_binary", "f1_binary")


def names(task: Task, classes: int | None = None) -> tuple[str, ...]:
    """Every metric of `task`, without prefix; `classes` adds those of two classes."""
    return (*_NAMES[task], *(_BINARY if task == "classification" and classes == 2 else ()))


def metric_name(metric: str | Callable[..., Any]) -> str:
    """What a metric of the user's is called in the report: its function's name."""
    if isinstance(metric, str):
        return metric.rpartition(":")[2].rpartition(".")[2]
    return getattr(metric, "__name__", type(metric).__name__)
