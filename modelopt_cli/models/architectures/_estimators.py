"""From dotted paths and arguments to scikit-learn estimators, every mistake told before anything is fitted.

Estimators of other packages, and the user's own beside the experiment file, need only keep scikit-learn's convention:
`fit`, `predict`, `get_params`. Whatever else scikit-learn's own ones tell of themselves is asked for, never required.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import MissingExtraError, UsageError, did_you_mean
from modelopt_cli.core.imports import load_module

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

_BOOSTING = ("xgboost", "lightgbm", "catboost")
_EXAMPLE = "sklearn.linear_model.LogisticRegression"
_SEEDS = ("random_state", "random_seed", "seed")
"""Names of one argument: who gets two of them, refuses."""
_QUIET: dict[str, dict[str, Any]] = {
    "lightgbm": {"verbosity": -1},
    "catboost": {"verbose": False, "allow_writing_files": False},
}
"""What keeps a package from writing on standard output, where the report goes, and files into the current folder."""
_LOUD = ("verbose", "verbosity", "logging_level", "silent", "verbose_eval")
"""Names under which the user may say so otherwise."""


def make(spec: Mapping[str, Any], seed: int | None, folder: str | None = None) -> Any:
    """The estimator of `{estimator: dotted.path, argument: value, ...}`; values may be such mappings themselves.

    `arguments`, a mapping, holds more of them: those whose names are taken, as that of an `estimator` inside.
    `folder`: where modules of the user's own are looked for first. Raises UsageError for a path that is no estimator,
    an argument it does not take, or a value it forbids.
    """
    path = spec["estimator"]
    kind = load_estimator(path, folder)
    known = _arguments_of(kind)
    given = {name: value for name, value in spec.items() if name != "estimator"}
    if isinstance(given.get("arguments"), Mapping) and "arguments" not in (known or ()):
        given |= given.pop("arguments")
    arguments = {name: _value(value, seed, folder) for name, value in given.items()}
    for name in arguments:
        if known is not None and name not in known:
            raise UsageError(
                f"{path} takes no argument '{name}'.{did_you_mean(name, known)} It takes: {', '.join(sorted(known))}"
            )
    if seed is not None and not any(name in arguments for name in _SEEDS) and "random_state" in _parameters_of(kind):
        arguments["random_state"] = seed
    quiet = _QUIET.get(path.partition(".")[0], {})
    if not any(name in arguments for name in _LOUD):
        arguments = {**quiet, **arguments}
    try:
        estimator = kind(**arguments)
    except TypeError as error:
        remedy = ""
        if "estimator" in (known or ()) and "estimator" not in arguments:
            remedy = f"; the one inside is named so: arguments: {{estimator: {{estimator: {_EXAMPLE}}}}}"
        raise UsageError(f"{path} cannot be made with these arguments: {error}{remedy}") from None
    _check_values(estimator, path)
    return estimator


def make_pipeline(steps: Sequence[Mapping[str, Any]], seed: int | None, folder: str | None = None) -> Any:
    """A Pipeline of the steps, named as scikit-learn's own make_pipeline names them."""
    from sklearn.pipeline import make_pipeline as make_sklearn_pipeline

    made = [make(step, seed, folder) for step in steps]
    for step, estimator in zip(steps[:-1], made[:-1], strict=True):
        if not hasattr(estimator, "transform"):
            raise UsageError(f"{step['estimator']} cannot stand before the last step: it has no transform")
    return make_sklearn_pipeline(*made)


def load_estimator(path: str, folder: str | None = None) -> Any:
    """The class at a dotted path. Raises UsageError with the nearest name, or the extra that is not installed."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise UsageError(f"estimator '{path}' is no dotted path; write e.g. sklearn.ensemble.RandomForestClassifier")
    package = module_name.partition(".")[0]
    if package in _BOOSTING and find_spec(package) is None:
        raise MissingExtraError(package, "boosting")
    installed = _is_installed(package) and not (folder and _is_beside(package, folder))
    module = load_module(module_name, f"estimator '{path}'", None if installed else folder)
    kind = _attribute(module, name)
    if kind is None:
        names = [each for each in dir(module) if not each.startswith("_")]
        raise UsageError(f"estimator '{path}': {module_name} has no '{name}'.{did_you_mean(name, names)}")
    if not (isinstance(kind, type) and hasattr(kind, "fit") and hasattr(kind, "get_params")):
        raise UsageError(f"'{path}' is no scikit-learn estimator (a class with fit and get_params)")
    return kind


def _attribute(module: ModuleType, name: str) -> Any:
    """What the module calls so; None where it does not. scikit-learn's experimental estimators are switched on."""
    try:
        return getattr(module, name, None)
    except ImportError as error:
        switch = re.search(r"from (sklearn\.experimental) import (\w+)", str(error))
        if switch is None:
            raise UsageError(f"estimator '{module.__name__}.{name}' cannot be imported: {error}") from None
        import_module(f"{switch[1]}.{switch[2]}")
        return getattr(module, name)


def default_argument(path: str, name: str, folder: str | None = None) -> Any:
    """What an estimator's argument is where nobody names it. Raises KeyError for one that has no plain default.

    random_state has none: a trial's seed is put there. Raises UsageError for a path that is no estimator.
    """
    kind = load_estimator(path, folder)
    parameters = inspect.signature(kind).parameters
    if name not in parameters and name in _parameters_of(kind):  # it reaches a base class as a keyword
        default = kind().get_params()[name]
    else:
        default = parameters[name].default  # KeyError: there is no such argument
    if default is inspect.Parameter.empty or name in _SEEDS or not isinstance(default, bool | int | float | str | None):
        raise KeyError(name)
    return default


def _is_installed(package: str) -> bool:
    try:
        spec = find_spec(package)
    except ValueError:  # of a module that was made by hand
        return False
    return spec is not None and "site-packages" in str(spec.origin)


def _is_beside(package: str, folder: str) -> bool:
    """Whether the folder has a module of this name, which then comes first, as it does for a script."""
    return Path(folder, f"{package}.py").is_file() or Path(folder, package, "__init__.py").is_file()


def _arguments_of(kind: type) -> set[str] | None:
    """Names that the constructor takes; None when it takes any."""
    parameters = inspect.signature(kind).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return {each.name for each in parameters}


def _parameters_of(kind: type) -> set[str]:
    """Names of its parameters, also of those that reach a base class as keywords."""
    named = _arguments_of(kind)
    if named is not None:
        return named
    try:
        return set(kind().get_params())
    except Exception:  # it cannot be made without arguments
        return set(inspect.signature(kind).parameters)


def _value(value: Any, seed: int | None, folder: str | None) -> Any:
    """Nested estimators are made; lists become what they are in the file."""
    if isinstance(value, Mapping) and isinstance(value.get("estimator"), str) and value["estimator"].count("."):
        return make(value, seed, folder)
    if isinstance(value, list | tuple):
        return [_value(item, seed, folder) for item in value]
    if isinstance(value, Mapping):
        return {key: _value(item, seed, folder) for key, item in value.items()}
    return value


def _check_values(estimator: Any, path: str) -> None:
    """scikit-learn's own rules for argument values, where it states them."""
    if not isinstance(getattr(estimator, "_parameter_constraints", None), Mapping):  # as scikit-learn's own ones do
        return
    try:
        estimator._validate_params()
    except ValueError as error:
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from None


def check_agrees(estimator: Any, task: Task) -> None:
    """Raise UsageError where the estimator is of another kind than the task: it would be fitted to something else.

    One that does not say what kind it is, as others' may, is let through.
    """
    name, kind = _named(estimator), _kind(estimator)
    if kind == "outlier_detector" or (kind is None and not hasattr(estimator, "predict")):
        kind = "transformer" if kind is None else kind.replace("_", " ")
    wanted = "regressor" if task == "regression" else "classifier"
    if kind is None or kind == wanted:
        return
    remedy = f"use a {wanted}{_counterpart(estimator, wanted)}"
    if kind == "regressor":
        remedy = f"write 'task: regression' under data where the target is a quantity, or {remedy}"
    elif kind == "classifier":
        remedy += ", or write 'task: classification' under data where the target's values are whole numbers for classes"
    article = "an" if kind[0] in "aeiou" else "a"
    raise UsageError(f"the model {name} is {article} {kind.replace('_', ' ')}, but the task is {task}; {remedy}")


def _kind(estimator: Any) -> str | None:
    """classifier, regressor, clusterer, ...; None where the estimator does not say."""
    from sklearn.utils import get_tags

    try:
        kind = get_tags(estimator).estimator_type
    except Exception:  # of a package that does not know scikit-learn's tags
        kind = getattr(estimator, "_estimator_type", None)
    return kind if isinstance(kind, str) else None


def _named(estimator: Any) -> str:
    """The class's name; of a pipeline its last step's."""
    steps = getattr(estimator, "steps", None)
    last = steps[-1][1] if isinstance(steps, list) and steps else estimator
    return type(last).__name__


def _counterpart(estimator: Any, wanted: str) -> str:
    """` such as RandomForestRegressor`, where the package has one of nearly the same name."""
    steps = getattr(estimator, "steps", None)
    last = type(steps[-1][1] if isinstance(steps, list) and steps else estimator)
    other = {"regressor": "Classifier", "classifier": "Regressor"}[wanted]
    name = last.__name__.replace(other, wanted.capitalize())
    package = ".".join(last.__module__.split(".")[:2])
    exported = name != last.__name__ and hasattr(sys.modules.get(package, sys.modules[last.__module__]), name)
    return f" such as {name}" if exported else ""
