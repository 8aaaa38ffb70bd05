"""Fitted estimators in files: what they are made of is named exactly, and nothing else is made or called."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, SplineTransformer, StandardScaler
from sklearn.svm import SVC

from modelopt_cli import evaluate, load, predict, train
from modelopt_cli.core.consent import NOTHING, Consent
from modelopt_cli.core.errors import RefusedError, UsageError
from modelopt_cli.models.files._estimator_types import LISTED
from modelopt_cli.models.files.estimator_files import dumped, loaded, unlisted

IRIS = {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}}
INPUTS = np.random.default_rng(0).normal(size=(60, 4))
CLASSES = (INPUTS[:, 0] > 0).astype(int)

ESTIMATORS = [
    LogisticRegression(),
    make_pipeline(SimpleImputer(), StandardScaler(), SVC(probability=False)),
    make_pipeline(KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), RidgeClassifier()),
    make_pipeline(SplineTransformer(), SGDClassifier(loss="modified_huber")),
    RandomForestClassifier(3),
    GradientBoostingClassifier(n_estimators=2),
    HistGradientBoostingClassifier(max_iter=2),
    KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
    GaussianProcessClassifier(),
    MLPClassifier((3,), max_iter=400, solver="sgd", learning_rate_init=0.01, tol=1e-2),
    CalibratedClassifierCV(LogisticRegression(), cv=2),
    StackingClassifier([("a", RidgeClassifier())], cv=2),
    VotingClassifier([("a", LogisticRegression())]),
    GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2, scoring="roc_auc"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_estimators_of_scikit_learn_are_read_as_they_are(estimator: Any) -> None:
    """Where this fails after an update of scikit-learn or skops: scripts/estimator_types.py."""
    estimator.fit(INPUTS, CLASSES)
    data = dumped(estimator)
    assert unlisted(data) == []
    assert np.array_equal(loaded(data, "m.pt", NOTHING).predict(INPUTS), estimator.predict(INPUTS))


def test_what_cannot_be_saved_is_told() -> None:
    from sklearn.cluster import Birch

    with pytest.raises(UsageError, match=r"Birch cannot be saved: .*Birch"):
        dumped(Birch().fit(INPUTS))


@pytest.mark.filterwarnings("ignore")
def test_experimental_estimators_are_switched_on() -> None:
    from modelopt_cli.models.architectures._estimators import make

    made = make({"estimator": "sklearn.impute.IterativeImputer", "max_iter": 1}, 0)
    data = dumped(made.fit(np.where(INPUTS > 1, np.nan, INPUTS)))
    assert unlisted(data) == []


def test_the_list_is_exact() -> None:
    """Names of types and of functions that compute; nothing that opens, imports, looks up or runs."""
    from modelopt_cli.models.files import _estimator_types  # private: the list itself is tested

    lines = Path(_estimator_types.__file__).read_text().splitlines()
    names = [line.strip(' ",') for line in lines if line.startswith('        "')]
    assert names == sorted(set(names))
    assert frozenset(names) == LISTED
    assert all(name.startswith(("sklearn.", "scipy.", "numpy.")) for name in names)
    for word in ("load", "open", "eval", "exec", "getattr", "import", "fetch", "memmap", "fromfile", "save", "joblib"):
        assert not [name for name in names if word in name.lower()]


def rewritten(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """The skops file with another schema: `change` gets every node."""

    def walked(value: Any) -> Any:
        if isinstance(value, dict):
            return change({key: walked(item) for key, item in value.items()})
        return [walked(item) for item in value] if isinstance(value, list) else value

    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(packed, "w") as out:
        for name in archive.namelist():
            content = archive.read(name)
            out.writestr(name, json.dumps(walked(json.loads(content))) if name == "schema.json" else content)
    return packed.getvalue()


def text(content: str) -> dict[str, Any]:
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(content)}


def node(module: str, name: str, loader: str, **more: Any) -> dict[str, Any]:
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


EMPTY = node("builtins", "tuple", "TupleNode", content=[])
NODES: dict[str, tuple[dict[str, Any], str]] = {
    "a bound method": (
        node("builtins", "str", "MethodNode", content={"func": "format", "obj": text("{0}")}),
        "builtins.str.format",
    ),
    "eval": (node("builtins", "eval", "TypeNode"), "builtins.eval"),
    "exec": (node("builtins", "exec", "FunctionNode"), "builtins.exec"),
    "a lookup": (node("builtins", "getattr", "FunctionNode"), "builtins.getattr"),
    "a function of numpy": (node("numpy", "load", "FunctionNode"), "numpy.load"),
    "a class of numpy": (node("numpy", "memmap", "TypeNode"), "numpy.memmap"),
    "a function of scipy": (node("scipy.io", "loadmat", "FunctionNode"), "scipy.io.loadmat"),
    "a function of scikit-learn": (node("sklearn.datasets", "fetch_openml", "FunctionNode"), "sklearn.datasets.fetch"),
    "a name in scikit-learn": (node("sklearn.utils._joblib", "os", "FunctionNode"), "sklearn.utils._joblib.os"),
    "a caller": (node("operator", "methodcaller", "OperatorFuncNode", attrs=EMPTY), "operator.methodcaller"),
    "a getter": (node("operator", "attrgetter", "OperatorFuncNode", attrs=EMPTY), "operator.attrgetter"),
    "a partial": (
        node(
            "functools",
            "partial",
            "PartialNode",
            content=dict.fromkeys(("func", "args", "kwds", "namespace"), EMPTY),
        ),
        "functools.partial",
    ),
    "a constructor": (node("subprocess", "Popen", "ConstructorFromReduceNode", content=EMPTY), "subprocess.Popen"),
    "a method of an estimator": (
        node(
            "sklearn.preprocessing._data",
            "StandardScaler",
            "MethodNode",
            content={"func": "fit", "obj": node("sklearn.preprocessing._data", "StandardScaler", "ObjectNode")},
        ),
        "StandardScaler.fit",
    ),
    "of an older protocol": (
        node("builtins", "x", "FunctionNode", content={"module_path": "os", "function": "system"}),
        "builtins.x",
    ),
}
_events: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _events and event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "open"):
        _events[-1].append(event)


sys.addaudithook(_hook)


@pytest.mark.parametrize(("foreign", "name"), NODES.values(), ids=NODES.keys())
def test_other_names_are_refused_before_anything_is_made(foreign: dict[str, Any], name: str) -> None:
    data = dumped(make_pipeline(FunctionTransformer(np.exp), LogisticRegression()).fit(INPUTS, CLASSES))
    data = rewritten(data, lambda value: foreign if value.get("__class__") == "exp" else value)
    assert foreign["__class__"] in json.dumps(zipfile.ZipFile(io.BytesIO(data)).read("schema.json").decode())
    events: list[str] = []
    _events.append(events)
    try:
        with pytest.raises(RefusedError) as caught:
            loaded(data, "m.pt", NOTHING)
    finally:
        _events.remove(events)
    assert name in str(caught.value)
    assert "--trust-code" in str(caught.value)
    assert events == []


class Threshold(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of one's own."""

    _parameter_constraints: dict[str, Any] = {}

    def __init__(self, bound: float = 0.0) -> None:
        self.bound = bound

    def fit(self, inputs: Any, targets: Any) -> Threshold:
        self.classes_, self.made_of_ = np.unique(targets), _Part()
        return self

    def predict(self, inputs: Any) -> Any:
        return np.asarray(self.classes_)[(np.asarray(inputs)[:, 0] > self.bound).astype(int)]


class _Part:
    pass


def test_own_estimators_are_told_when_saved_and_need_consent_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = f"{__name__}.Threshold"
    report = train(load({"name": "own", "data": IRIS, "model": {"type": "sklearn", "estimator": own}}), "run")
    [warning_of_own] = [warning for warning in report.warnings if "--trust-code" in warning]
    assert own in warning_of_own
    assert f"{__name__}._Part" in warning_of_own
    with pytest.raises(RefusedError, match=own):
        evaluate("run/model.pt")
    assert evaluate("run/model.pt", trust_code=True).metrics == pytest.approx(
        {name: value for name, value in report.metrics.items() if name.startswith("test.")}, nan_ok=True
    )
    plain = train(load({"name": "plain", "data": IRIS, "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}}))
    assert not [warning for warning in plain.warnings if "--trust-code" in warning]


def test_an_experiment_that_names_the_estimator_is_consent_to_its_package() -> None:
    data = dumped(Threshold().fit(INPUTS, CLASSES))
    named = load({"data": IRIS, "model": {"type": "sklearn", "estimator": f"{__name__}.Threshold"}})
    assert isinstance(loaded(data, "m.pt", named.consent), Threshold)
    with pytest.raises(RefusedError):
        loaded(data, "m.pt", load({"data": IRIS, "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}}).consent)
    assert isinstance(loaded(data, "m.pt", Consent(everything=True)), Threshold)


def test_a_function_of_that_package_is_more_than_its_estimators() -> None:
    fitted = make_pipeline(FunctionTransformer(np.exp), Threshold()).fit(INPUTS, CLASSES)
    foreign = node(__name__, "rewritten", "FunctionNode")
    data = rewritten(dumped(fitted), lambda value: foreign if value.get("__class__") == "exp" else value)
    named = load({"data": IRIS, "model": {"type": "sklearn", "estimator": f"{__name__}.Threshold"}})
    with pytest.raises(RefusedError, match="rewritten"):
        loaded(data, "m.pt", named.consent)


def test_a_hostile_model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimator of a trained model.pt, in which a function became `eval` and another a text's `format`."""
    monkeypatch.chdir(tmp_path)
    model = {"type": "sklearn", "estimator": "sklearn.linear_model.LogisticRegression"}
    train(load({"name": "t", "data": IRIS, "model": model}), "run")
    content = torch.load("run/model.pt", weights_only=True)
    fitted = LogisticRegression().fit(INPUTS, CLASSES)
    hostile = make_pipeline(FunctionTransformer(len), FunctionTransformer(eval), fitted)
    run = text("__import__('pathlib').Path('ran').touch()")
    bound = node("builtins", "str", "MethodNode", content={"func": "format", "obj": run})
    data = rewritten(skops.io.dumps(hostile), lambda value: bound if value.get("__class__") == "len" else value)
    torch.save({**content, "state": torch.frombuffer(bytearray(data), dtype=torch.uint8)}, "m.pt")
    Path("new.csv").write_text("sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5,3,1,0.2\n")
    for use in (lambda: predict("m.pt", "new.csv"), lambda: evaluate("m.pt")):
        with pytest.raises(RefusedError, match=r"builtins\.eval") as caught:
            use()
        assert caught.value.exit_code == 5
    assert not Path("ran").exists()
