"""What metrics are called, by task: known without computing any, so that a file can be checked before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.imports import load_target

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


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's: `module:function`, imported from `folder` when it is first called, in any process."""

    target: str
    folder: str

    def __call__(self, targets: Any, predictions: Any) -> Any:
        """What the function gives. Raises UsageError where it cannot be imported."""
        return load_target(self.target, self.folder)(targets, predictions)

    def check(self) -> None:
        """Raise UsageError where there is no such function, or it does not take targets and predictions."""
        function = load_target(self.target, self.folder)
        try:
            inspect.signature(function).bind(None, None)
        except ValueError:  # it does not say what it takes
            return
        except TypeError as error:
            raise UsageError(
                f"the metric '{self.target}' cannot be called with (targets, predictions): {error}; let it take these "
                "two and return a number"
            ) from None


def metric_name(metric: str | Callable[..., Any]) -> str:
    """What a metric of the user's is called in the report: its function's name, as the file writes it."""
    if isinstance(metric, OwnMetric):
        metric = metric.target
    if isinstance(metric, str):
        return metric.rpartition(":")[2].rpartition(".")[2]
    return getattr(metric, "__name__", type(metric).__name__)
