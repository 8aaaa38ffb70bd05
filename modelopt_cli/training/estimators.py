"""Fitting scikit-learn estimators and judging them as scikit-learn would.

Labels are judged by `predict` (so accuracy is what `cross_val_score` gives), ROC AUC and log loss by `predict_proba`,
or by `decision_function` where there is no more. Warnings are returned, never printed.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from modelopt_cli.core.errors import ModeloptError, TrialError, UsageError
from modelopt_cli.core.imports import describe_user_error
from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.training import boosters
from modelopt_cli.training.metrics import scoring
from modelopt_cli.training.metrics.answers import Answers, Keep
from modelopt_cli.training.metrics.names import RANKED
from modelopt_cli.training.metrics.scoring import Scores

if TYPE_CHECKING:
    from modelopt_cli.data.part import Part
    from modelopt_cli.data.raw import Task

Array = np.ndarray[Any, Any]

_FLOAT32 = ("xgboost", "lightgbm")
_MOST_ROUNDED = 0.001
"""Of the targets' standard deviation."""


def fit(estimator: Any, part: Part, stopping: Array | None = None) -> list[str]:
    """Fit on the samples of `part`, weighted where it has weights; returns the warnings, each once.

    `stopping`: positions in `part` that early stopping goes by (see boosters.py) and nothing is fitted to.
    Raises UsageError for an argument that scikit-learn refuses, TrialError for what else goes wrong.
    """
    name, log = type(estimator).__name__, WarningLog()
    options = {}
    if part.weights is not None:
        key = _weight_argument(estimator)
        if key is None:
            log.add([f"{name} takes no sample weights; it was fitted without them"])
        else:
            options[key] = part.weights
    several = part.targets.shape[1] if part.targets.ndim == 2 else 1
    with _failures(name, several), log.recording(every=True):
        rows, targets = _rows(part.inputs), _plain_targets(part.targets, estimator)
        log.add(_rounded(estimator, targets))
        if stopping is None:
            estimator.fit(rows, targets, **options)
        else:
            boosters.fit(estimator, rows, targets, part.weights if options else None, stopping)
    return log.texts


def evaluate(
    estimator: Any,
    part: Part,
    task: Task,
    *,
    prefix: str,
    classes: int | None = None,
    wanted: Collection[str] | None = None,
    extra: Sequence[str | scoring.Metric] = (),
    keep: Keep | None = None,
) -> dict[str, float]:
    """Every metric on `part`, or the `wanted` ones (full names); those of the labels alone need no `predict_proba`.

    `keep` is given the answers.
    """
    ranked = task != "regression" and (wanted is None or any(name.removeprefix(prefix) in RANKED for name in wanted))
    answers = scores(estimator, part.inputs, task, classes, values=ranked)
    if keep is not None:
        keep(Answers(task, part.targets, answers))
    return scoring.compute(
        task,
        part.targets,
        answers,
        prefix=prefix,
        weights=part.weights,
        extra=extra,
        classes=classes,
        wanted=wanted,
    )


def scores(
    estimator: Any, inputs: Array, task: Task, outputs: int | None = None, *, values: bool = True
) -> Array | Scores:
    """What a fitted estimator says about `inputs` (N, ...): values (N, outputs) for regression, else `Scores`.

    `outputs`: classes (or labels) in all; those that the train split lacked get probability 0. `values` False: the
    predictions alone.
    """
    rows = _rows(inputs)
    with _failures(type(estimator).__name__), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictions = np.asarray(estimator.predict(rows))
        if task == "regression":
            return predictions.reshape(len(rows), -1)
        predictions = _classes_among(predictions, 2 if task == "multilabel" else outputs)
        if task == "classification":
            predictions = predictions.reshape(len(rows))  # CatBoost gives (N, 1)
        if task == "multilabel":
            predictions = predictions.reshape(len(rows), -1)
        if not values:
            return Scores(None, predictions=predictions, outputs=outputs)
        if hasattr(estimator, "predict_proba"):
            return Scores(_probabilities(estimator, rows, task, outputs), predictions=predictions, outputs=outputs)
        if hasattr(estimator, "decision_function"):
            return _decisions(estimator, rows, task, outputs, predictions)
    return Scores(None, predictions=predictions, outputs=outputs)


def _probabilities(estimator: Any, rows: Array, task: Task, outputs: int | None) -> Array:
    """(N, outputs). A list of (N, 2), as scikit-learn's multi-output classifiers give it, becomes (N, labels)."""
    given = estimator.predict_proba(rows)
    if task == "multilabel":
        if isinstance(given, list):
            classes = getattr(estimator, "classes_", [np.array([0, 1])] * len(given))
            return np.stack([_of_one(share, known) for share, known in zip(given, classes, strict=True)], axis=1)
        return _of_one(given, estimator.classes_)[:, None] if outputs == 1 else np.asarray(given)
    return _spread(np.asarray(given), np.asarray(estimator.classes_), outputs)


def _of_one(share: Array, classes: Array) -> Array:
    """(N,) probability of 1 from (N, classes seen)."""
    columns = np.flatnonzero(np.asarray(classes) == 1)
    return share[:, columns[0]] if len(columns) else np.zeros(len(share))


def _spread(share: Array, classes: Array, outputs: int | None) -> Array:
    """(N, outputs) from columns for the classes that training saw."""
    width = outputs or int(classes.max()) + 1
    if share.shape[1] == width:
        return share
    spread = np.zeros((len(share), width), share.dtype)
    spread[:, classes.astype(np.int64)] = share
    return spread


def _decisions(estimator: Any, rows: Array, task: Task, outputs: int | None, predictions: Array) -> Scores:
    """Decision values where they have a column a class; without them for classes that training did not see."""
    values = np.asarray(estimator.decision_function(rows))
    if values.ndim == 1:
        values = values[:, None]
    seen = len(estimator.classes_) if task == "classification" else values.shape[1]
    columns = 1 if seen == 2 and task == "classification" else seen
    complete = outputs in (None, seen) and values.shape[1] == columns
    return Scores(values if complete else None, "decision", predictions, outputs)


def _classes_among(predictions: Array, count: int | None) -> Array:
    """The predictions as whole numbers. Raises ValueError where one is no class: cut off, it would be another one."""
    numbers = predictions.astype(np.float64) if predictions.dtype.kind in "OSU" else predictions
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) if numbers.dtype.kind == "f" else np.True_
    known = whole & (numbers >= 0) & ((numbers < count) if count is not None else True)
    if not np.all(known):
        first = numbers[~known].flat[0]
        raise ValueError(
            f"it predicts {first:g}, which is no class: classes are given to it as 0, 1, ..., and predict must return "
            "some of them"
        )
    return numbers.astype(np.int64)


def _rounded(estimator: Any, targets: Array) -> list[str]:
    """A warning where a booster, which holds targets as float32, would round these to a part of their spread."""
    from sklearn.pipeline import Pipeline

    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    package = type(last).__module__.partition(".")[0]
    if package not in _FLOAT32 or targets.dtype.kind != "f":
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        error, spread = float(np.abs(targets - targets.astype(np.float32)).max()), float(np.std(targets))
    if error <= _MOST_ROUNDED * spread:
        return []
    return [
        f"{type(last).__name__} holds targets as float32, which rounds these by up to {error:.3g} (their standard "
        f"deviation is {spread:.3g}); take an offset off the target, or put the estimator into "
        "sklearn.compose.TransformedTargetRegressor with a StandardScaler"
    ]


def _rows(inputs: Array) -> Array:
    """(N, features), for scikit-learn takes no images; a copy, for an estimator may write into it (`copy: false`)."""
    return np.array(inputs.reshape(len(inputs), -1))


def _plain_targets(targets: Array, estimator: Any) -> Array:
    """(N,) where there is one output; whole numbers for classifiers, whose targets are classes or 0 and 1. A copy."""
    from sklearn.base import is_classifier

    flat = np.array(targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets)
    try:
        classifies = is_classifier(estimator)
    except AttributeError:  # of a package that does not know scikit-learn's tags
        return flat
    return flat.astype(np.int64) if classifies else flat


def _weight_argument(estimator: Any) -> str | None:
    """The name under which `fit` takes sample weights; None when it does not."""
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return f"{name}__sample_weight" if has_fit_parameter(last, "sample_weight") else None
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


@contextmanager
def _failures(name: str, several: int = 1) -> Iterator[None]:
    """Turn what scikit-learn raises into errors of ours, with its first line. `several`: targets that it is given."""
    try:
        yield
    except ModeloptError:
        raise
    except MemoryError as error:
        raise TrialError(
            "memory", f"{name}: {error or 'out of memory'}; use fewer samples or a smaller model"
        ) from error
    except Exception as error:
        from sklearn.utils._param_validation import InvalidParameterError

        text = str(error).strip().partition("\n")[0]
        if isinstance(error, InvalidParameterError):
            raise UsageError(text) from error
        if several > 1 and "1d array" in text:
            raise UsageError(
                f"{name} learns one target, but the data have {several}; use an estimator that takes several, or put "
                "it, as model.arguments.estimator, into sklearn.multioutput.MultiOutputClassifier or "
                "MultiOutputRegressor"
            ) from error
        raise TrialError("error", f"{name}: {text or describe_user_error(error)}") from error
