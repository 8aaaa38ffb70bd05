"""Boosters (XGBoost, LightGBM, CatBoost) that stop adding trees when samples apart are predicted no better.

They ask for these samples by themselves (`eval_set`) and refuse to be fitted without. They get some of the train split,
transformed as the rest of it where they stand at the end of a pipeline.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from modelopt_cli.core.errors import UsageError

Array = np.ndarray[Any, Any]

_NAMES = ("early_stopping_rounds", "early_stopping_round", "early_stopping", "n_iter_no_change", "od_wait", "od_type")
_WEIGHTS = ("sample_weight_eval_set", "eval_sample_weight")
"""What packages call the weights of those samples."""


def stops_early(estimator: Any) -> bool:
    """Whether it (of a pipeline the last step) takes an eval_set and is asked to stop early."""
    return _is_asked(_last(estimator))


def check_inside(estimator: Any) -> None:
    """Raises UsageError where a booster inside another estimator is asked to stop early: that one gives it no samples
    to go by.
    """
    last = _last(estimator)
    for name, inside in last.get_params(deep=True).items():
        if hasattr(inside, "fit") and not isinstance(inside, type) and _is_asked(inside):
            raise UsageError(
                f"{type(inside).__name__} ({name} of {type(last).__name__}) is asked to stop early, but there it gets "
                "no samples to go by; leave early stopping out, and set the number of trees"
            )


def _is_asked(estimator: Any) -> bool:
    if "eval_set" not in _fit_arguments(estimator):
        return False
    given = estimator.get_params()
    return any(given.get(name) not in (None, False, 0) for name in _NAMES) or given.get("use_best_model") is True


def fit(estimator: Any, rows: Array, targets: Array, weights: Array | None, stopping: Array) -> None:
    """Fit to all but the samples `stopping` of rows (N, features), which tell when to stop."""
    learnt = np.setdiff1d(np.arange(len(rows)), stopping)
    inputs, held = rows[learnt], rows[stopping]
    last, arguments = _last(estimator), _fit_arguments(_last(estimator))
    if last is not estimator:
        before = estimator[:-1]
        inputs = before.fit_transform(inputs, targets[learnt])
        held = before.transform(held)
    options: dict[str, Any] = {"eval_set": [(held, targets[stopping])]}
    if "eval_X" in arguments:  # as LightGBM has it from 4.7 on
        options = {"eval_X": held, "eval_y": targets[stopping]}
    if weights is not None:
        options["sample_weight"] = weights[learnt]
        options |= {name: [weights[stopping]] for name in _WEIGHTS if name in arguments}
    if type(last).__module__.startswith("xgboost"):
        options["verbose"] = False  # it prints a line a round
    last.fit(inputs, targets[learnt], **options)


def _last(estimator: Any) -> Any:
    from sklearn.pipeline import Pipeline

    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def _fit_arguments(estimator: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(estimator.fit).parameters)
    except (TypeError, ValueError):
        return frozenset()
