"""The types that scikit-learn's own estimators are saved as: writes modelopt_cli/models/files/_estimator_types.py.

Every estimator of scikit-learn is fitted on small data, with its defaults and with each text that one of its parameters
may have; what its skops file names beyond what skops itself trusts is listed. Takes some minutes; run it when a new
scikit-learn or skops saves something else (tests/models/test_estimator_files.py says so). Names are only added: files
of earlier versions stay readable.

    python scripts/estimator_types.py
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.experimental.enable_halving_search_cv
import sklearn.experimental.enable_iterative_imputer  # noqa: F401
import skops.io
from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators
from sklearn.utils._param_validation import StrOptions

PATH = Path(__file__).parents[1] / "modelopt_cli" / "models" / "_estimator_types.py"
SEEN_BY_ALL = ("builtins.", "numpy.ndarray", "numpy.random.", "numpy.ma.", "numpy.float", "numpy.int", "numpy.uint")
"""What skops trusts in nodes of its own, whatever its version, and may not be trusted elsewhere."""
EXPERIMENTAL = ("IterativeImputer", "HalvingGridSearchCV", "HalvingRandomSearchCV")
"""skops trusts them only where they were switched on before it was imported."""
KINDS = 2  # of data, for each estimator
HEAD = '''\
"""The types and functions that scikit-learn's own estimators are saved as, beyond what skops itself trusts.

Written by scripts/estimator_types.py. Exact names: whatever stands here may be made and called by a file.
"""

LISTED = frozenset(
    {
'''


def named(value: Any) -> Iterator[str]:
    """Everything that a skops schema names."""
    if isinstance(value, dict):
        if value.get("__loader__", "JsonNode") != "JsonNode":
            name = f"{value['__module__']}.{value['__class__']}"
            yield f"{name}.{value['content']['func']}" if value["__loader__"] == "MethodNode" else name
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from named(item)


def names_of(estimator: Any) -> set[str]:
    """What a fitted estimator is saved as, without what skops always trusts."""
    data = skops.io.dumps(estimator)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        stored = set(named(json.loads(archive.read("schema.json"))))
    whole = {f"{kind.__module__}.{kind.__name__}" for _, kind in all_estimators() if kind.__name__ not in EXPERIMENTAL}
    kept = {name for name in stored if not name.startswith(SEEN_BY_ALL)} - whole
    return kept | set(skops.io.get_untrusted_types(data=data))


def samples() -> list[tuple[Any, Any]]:
    """Data of every kind that some estimator takes."""
    inputs, classes = make_classification(24, 6, n_informative=4, random_state=0)
    numbers, values = make_regression(24, 6, random_state=0)
    return [
        (inputs, classes),
        (numbers, values),
        (abs(inputs), classes),
        (numbers, abs(values)),
        (inputs[:, :1], values),
        (inputs, np.stack([classes, 1 - classes], 1)),
        (numbers, np.stack([values, values], 1)),
        (["a b", "b c d"] * 12, classes),
        ([{"a": 1}, {"b": 2}] * 12, classes),
        (classes, None),
    ]


def made(kind: Any) -> Iterator[Any]:
    """The estimator as it comes, and with each text that a parameter may have."""
    bases = []
    for inner in ({}, {"estimator": LogisticRegression()}, {"estimator": Ridge()}, {"base_estimator": Ridge()}):
        try:
            bases.append(kind(**inner))
        except TypeError:
            continue
    outer = {"estimators": [("a", LogisticRegression()), ("b", DecisionTreeClassifier())]}
    for more in (outer, {"transformers": [("a", "passthrough", [0])]}, {"steps": [("a", LinearSVC())]}):
        try:
            bases.append(kind(**more))
        except TypeError:
            continue
    for base in bases:
        yield base
        for name, rules in getattr(kind, "_parameter_constraints", {}).items():
            options = [one for rule in rules if isinstance(rule, StrOptions) for one in sorted(rule.options)]
            for option in options if name != "input" else ():  # which reads files, and closes them
                try:
                    yield clone(base).set_params(**{name: option})
                except ValueError:
                    continue


def searches() -> Iterator[Any]:
    """With each scorer by name."""
    for scorer in get_scorer_names():
        yield GridSearchCV(RandomForestClassifier(3), {"max_depth": [1]}, cv=2, scoring=scorer, error_score=0.0)
        yield GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2, scoring=scorer, error_score=0.0)


def saved(estimator: Any) -> set[str]:
    """What it is saved as, fitted on the first few kinds of data that it takes; empty for one that takes none."""
    saved_names: set[str] = set()
    taken = 0
    for inputs, targets in samples():
        try:
            fitted = clone(estimator).fit(inputs, targets)
            saved_names |= names_of(fitted)
            taken += 1
        except Exception:  # most estimators take little of it
            continue
        if taken == KINDS:
            break
    return saved_names


def main() -> None:
    warnings.simplefilter("ignore")
    all_names: set[str] = set()
    for name, kind in all_estimators():
        for estimator in made(kind):
            all_names |= saved(estimator)
        print(name, len(all_names), flush=True)
    for estimator in searches():
        all_names |= saved(estimator)
    from modelopt_cli.models.files._estimator_types import LISTED

    lines = "".join(f'        "{name}",\n' for name in sorted(all_names | LISTED))
    PATH.write_text(f"{HEAD}{lines}    }}\n)\n", encoding="utf-8")


if __name__ == "__main__":
    main()
