"""From dotted paths and arguments to scikit-learn estimators, every mistake told before anything is fitted."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from modelopt_cli.core.errors import UsageError, did_you_mean


def make(spec: Mapping[str, Any], seed: int | None) -> Any:
    """The estimator of `{estimator: dotted.path, argument: value, ...}`; values may be such mappings themselves.

    Raises UsageError for a path that is no estimator, an argument it does not take, or a value it forbids.
    """
    path = spec["estimator"]
    kind = load_estimator(path)
    arguments = {name: _value(value, seed) for name, value in spec.items() if name != "estimator"}
    known = _arguments_of(kind)
    for name in arguments:
        if known is not None and name not in known:
            raise UsageError(
                f"{path} takes no argument '{name}'.{did_you_mean(name, known)} It takes: {', '.join(sorted(known))}"
            )
    if seed is not None and known is not None and "random_state" in known:
        arguments.setdefault("random_state", seed)
    try:
        estimator = kind(**arguments)
    except TypeError as error:
        raise UsageError(f"{path} cannot be made with these arguments: {error}") from None
    _check_values(estimator, path)
    return estimator


def make_pipeline(steps: Sequence[Mapping[str, Any]], seed: int | None) -> Any:
    """A Pipeline of the steps, named as scikit-learn's own make_pipeline names them."""
    from sklearn.pipeline import make_pipeline as make_sklearn_pipeline

    made = [make(step, seed) for step in steps]
    for step, estimator in zip(steps[:-1], made[:-1], strict=True):
        if not hasattr(estimator, "transform"):
            raise UsageError(f"{step['estimator']} cannot stand before the last step: it has no transform")
    return make_sklearn_pipeline(*made)


def load_estimator(path: str) -> Any:
    """The class at a dotted path. Raises UsageError with the nearest name."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise UsageError(f"estimator '{path}' is no dotted path; write e.g. sklearn.ensemble.RandomForestClassifier")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"estimator '{path}': cannot import {module_name} ({error})") from None
    if not hasattr(module, name):
        names = [each for each in dir(module) if not each.startswith("_")]
        raise UsageError(f"estimator '{path}': {module_name} has no '{name}'.{did_you_mean(name, names)}")
    kind = getattr(module, name)
    if not (isinstance(kind, type) and hasattr(kind, "fit") and hasattr(kind, "get_params")):
        raise UsageError(f"'{path}' is no scikit-learn estimator (a class with fit and get_params)")
    return kind


def default_argument(path: str, name: str) -> Any:
    """What an estimator's argument is where nobody names it. Raises KeyError for one that has no plain default.

    random_state has none: a trial's seed is put there. Raises UsageError for a path that is no estimator.
    """
    parameter = inspect.signature(load_estimator(path)).parameters.get(name)
    plain = isinstance(None if parameter is None else parameter.default, bool | int | float | str | None)
    if parameter is None or parameter.default is parameter.empty or not plain or name == "random_state":
        raise KeyError(name)
    return parameter.default


def _arguments_of(kind: type) -> set[str] | None:
    """Names that the constructor takes; None when it takes any."""
    parameters = inspect.signature(kind).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return {each.name for each in parameters}


def _value(value: Any, seed: int | None) -> Any:
    """Nested estimators are made; lists become what they are in the file."""
    if isinstance(value, Mapping) and isinstance(value.get("estimator"), str) and value["estimator"].count("."):
        return make(value, seed)
    if isinstance(value, list | tuple):
        return [_value(item, seed) for item in value]
    if isinstance(value, Mapping):
        return {key: _value(item, seed) for key, item in value.items()}
    return value


def _check_values(estimator: Any, path: str) -> None:
    """scikit-learn's own rules for argument values, where it states them."""
    if not hasattr(estimator, "_validate_params"):
        return
    try:
        estimator._validate_params()
    except ValueError as error:
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from None
