"""How good predictions are: scikit-learn's definitions, in numpy, so that a search of many short trials pays little.

Every number equals scikit-learn's own (the tests call it directly), with `zero_division=0` and without its warnings.
A metric that is undefined for the samples at hand is absent.

classification   accuracy, balanced_accuracy; precision, recall, f1 (macro: the mean over the classes that occur in
                 targets or predictions) and the same with `_weighted` (by the classes' frequency); with two classes
                 also `_binary` (of class 1); roc_auc (more than two classes: one against the rest, macro), log_loss
multilabel       accuracy (all labels right), precision, recall, f1 (macro), f1_micro, f1_weighted, roc_auc (macro)
regression       mae, mse, rmse, r2 (several outputs: the mean over them)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modelopt_cli.core.errors import ModeloptError, TrialError, UsageError
from modelopt_cli.training.metrics import classification, regression, roc_auc
from modelopt_cli.training.metrics.names import metric_name

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

Array = np.ndarray[Any, Any]
Metric = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model says about N samples, where it is no logits.

    `values` (N, outputs): probabilities, or decision values that only rank; None when there are labels alone.
    `predictions`: (N,) classes or (N, labels) 0/1, where the model decides by itself.
    """

    values: Array | None
    kind: Literal["probabilities", "decision"] = "probabilities"
    predictions: Array | None = None
    outputs: int | None = None  # classes in all, also those that are never predicted

    def __len__(self) -> int:
        return len(self.values if self.values is not None else self.predictions)  # type: ignore[arg-type]


def compute(
    task: Task,
    targets: Array,
    scores: Array | Scores,
    *,
    prefix: str,
    weights: Array | None = None,
    extra: Sequence[str | Metric] = (),
    classes: int | None = None,
    wanted: Collection[str] | None = None,
) -> dict[str, float]:
    """`{prefix + name: value}` of every metric, or of the `wanted` ones (full names; others are passed over).

    targets: (N,) classes, (N, labels) 0/1 or (N, outputs); scores: logits or values (N, outputs), or `Scores`.
    weights: (N,). extra: the user's own, `module:function` or callable, (targets, predictions) -> number.
    Raises TrialError("nan") for scores that are not finite, UsageError for a metric of the user's that fails.
    """
    given = scores if isinstance(scores, Scores) else None
    values = given.values if given is not None else np.asarray(scores)
    if values is not None and not np.isfinite(values).all():
        raise TrialError("nan", f"the model's outputs for {prefix.rstrip('.')} are not finite; lower the learning rate")
    want = None if wanted is None else {name.removeprefix(prefix) for name in wanted if name.startswith(prefix)}
    targets = np.asarray(targets)
    predictions = decide(task, scores)
    if task == "classification":
        measured = _classification(targets, scores, predictions, weights, classes, want)
    elif task == "multilabel":
        measured = _multilabel(targets, scores, predictions, weights, want)
    else:
        measured = regression.measures(targets, predictions, weights)
    for metric in extra:
        measured.update(_own(metric, targets, predictions, want))
    return {prefix + name: float(value) for name, value in measured.items() if want is None or name in want}


def probabilities(task: Task, scores: Array | Scores) -> Array:
    """(N, outputs) float64: each class's or label's probability; 0 and 1 where a model gives no probabilities.

    Regression: the values themselves.
    """
    if not isinstance(scores, Scores):
        return _softmax(scores) if task == "classification" else _sigmoid(scores) if task == "multilabel" else scores
    if scores.values is not None and scores.kind == "probabilities":
        return scores.values
    chosen = decide(task, scores)
    if task == "multilabel":
        return chosen.astype(np.float64)
    return np.eye(scores.outputs or int(chosen.max(initial=1)) + 1)[chosen]


def decide(task: Task, scores: Array | Scores) -> Array:
    """What is predicted: (N,) int64 classes, (N, labels) int64 0/1, or the values (N, outputs)."""
    if isinstance(scores, Scores):
        if scores.predictions is not None:
            return scores.predictions
        values, threshold = np.asarray(scores.values), 0.5 if scores.kind == "probabilities" else 0.0
    else:
        values, threshold = np.asarray(scores), 0.0
    if task == "classification":
        return values.argmax(axis=1) if values.shape[1] > 1 else (values[:, 0] > threshold).astype(np.int64)
    return (values >= threshold).astype(np.int64) if task == "multilabel" else values


def _classification(
    targets: Array, scores: Array | Scores, predictions: Array, weights: Array | None, classes: int | None, want: Any
) -> dict[str, float]:
    measured = classification.measures(targets, predictions, weights, classes)
    ranks = _ranks("classification", scores)
    if ranks is not None and (want is None or "roc_auc" in want):
        measured.update(_present("roc_auc", roc_auc.roc_auc(targets, ranks, weights)))
    if (want is None or "log_loss" in want) and not (isinstance(scores, Scores) and scores.kind == "decision"):
        shares = (
            None if isinstance(scores, Scores) and scores.values is None else probabilities("classification", scores)
        )
        if shares is not None:
            measured.update(_present("log_loss", classification.log_loss(targets, shares, weights)))
    return measured


def _multilabel(
    targets: Array, scores: Array | Scores, predictions: Array, weights: Array | None, want: Any
) -> dict[str, float]:
    labels = targets.astype(np.int64)
    measured = classification.label_measures(labels, predictions, weights)
    ranks = _ranks("multilabel", scores)
    if ranks is not None and (want is None or "roc_auc" in want):
        measured.update(_present("roc_auc", roc_auc.mean_auc(labels, ranks, weights)))
    return measured


def _ranks(task: Task, scores: Array | Scores) -> Array | None:
    """(N, outputs) values whose order is what ROC AUC looks at; None when there are predictions only."""
    if not isinstance(scores, Scores):
        return probabilities(task, scores)
    return scores.values


def _own(metric: str | Metric, targets: Array, predictions: Array, want: set[str] | None) -> dict[str, float]:
    """The user's metric by its function's name; (N, 1) arrays are given as (N,)."""
    name = metric_name(metric)
    if want is not None and name not in want:
        return {}
    from modelopt_cli.core.imports import describe_user_error, load_target

    function = load_target(metric) if isinstance(metric, str) else metric
    flat = [array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array for array in (targets, predictions)]
    try:
        return {name: float(function(*flat))}
    except ModeloptError:  # it cannot be imported
        raise
    except Exception as error:
        raise UsageError(
            f"metric '{name}' failed: {describe_user_error(error)}; it is called with (targets, predictions) "
            "and must return a number"
        ) from error


def _present(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}


def _softmax(logits: Array) -> Array:
    """(N, classes) float64; a single column is the second class's logit."""
    values = logits.astype(np.float64)
    if values.shape[1] == 1:
        share = _sigmoid(values)
        return np.concatenate([1.0 - share, share], axis=1)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def _sigmoid(logits: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))
