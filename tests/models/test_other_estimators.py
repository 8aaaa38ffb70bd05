"""Estimators of boosting packages and of the user's own, and whether an estimator goes with the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import Named
from modelopt_cli.models.architectures import Shapes, _estimators  # private: the machinery of `sklearn`
from modelopt_cli.training import losses
from modelopt_cli.training.settings import TrainingSettings

OWN = """\
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Nearest(ClassifierMixin, BaseEstimator):
    def __init__(self, power=2.0): self.power = power
    def fit(self, X, y):
        self.classes_ = np.unique(y); self.means_ = np.stack([X[y == c].mean(0) for c in self.classes_]); return self
    def predict(self, X):
        return self.classes_[(np.abs(X[:, None] - self.means_[None]) ** self.power).sum(-1).argmin(1)]

class Bare:
    '''No base class, no tags.'''
    def get_params(self, deep=True): return {}
    def set_params(self, **_): return self
    def fit(self, X, y): return self
    def predict(self, X): return np.zeros(len(X), int)
"""
LINEAR, TREE = "sklearn.linear_model.LinearRegression", "sklearn.tree.DecisionTreeClassifier"
SCALER = {"estimator": "sklearn.preprocessing.StandardScaler"}


def built(task: str, seed: int = 3, **section: Any) -> Any:
    model: Any = Named("models").parse({"type": "sklearn", **section})
    model.check()
    return model.build(Shapes((4,), 3 if task == "classification" else 1, task), seed)  # type: ignore[arg-type]


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "beside_the_file.py").write_text(OWN)
    return str(tmp_path)


@pytest.mark.parametrize(
    "section",
    [
        {"estimator": LINEAR},
        {"steps": [SCALER, {"estimator": LINEAR}]},
        {"estimator": "sklearn.compose.TransformedTargetRegressor", "regressor": {"estimator": LINEAR}},
    ],
)
def test_a_regressor_takes_no_classes(section: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"is a regressor, but the task is classification; write 'task: regression'"):
        built("classification", **section)
    built("regression", **section)


@pytest.mark.parametrize("section", [{"estimator": TREE}, {"steps": [SCALER, {"estimator": TREE}]}])
def test_a_classifier_takes_no_quantities(section: dict[str, Any]) -> None:
    rule = "DecisionTreeClassifier is a classifier, but the task is regression; use a regressor such as DecisionTreeReg"
    with pytest.raises(UsageError, match=rule):
        built("regression", **section)
    for task in ("classification", "multilabel"):
        built(task, **section)


def test_an_estimator_around_another_is_what_that_one_is() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    for inner, right, wrong in ((Ridge(), "regression", "classification"), (SVC(), "classification", "regression")):
        around = GridSearchCV(make_pipeline(StandardScaler(), inner), {})
        _estimators.check_agrees(around, right)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="but the task is"):
            _estimators.check_agrees(around, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("sklearn.cluster.KMeans", "a clusterer"),
        ("sklearn.cluster.DBSCAN", "a clusterer"),
        ("sklearn.decomposition.PCA", "a transformer"),
        ("sklearn.ensemble.IsolationForest", "an outlier detector"),
        ("sklearn.mixture.GaussianMixture", "a density estimator"),
    ],
)
def test_what_predicts_no_target_is_refused(path: str, kind: str, task: str) -> None:
    with pytest.raises(UsageError, match=f"is {kind}, but the task is {task}; use a"):
        built(task, estimator=path)
    with pytest.raises(UsageError, match=f"is {kind}, but"):
        built(task, steps=[SCALER, {"estimator": path}])


def test_ten_lines_of_one_s_own_are_found_beside_the_file(own: str) -> None:
    model = built("classification", estimator="beside_the_file.Nearest", power=3.0, folder=own)
    assert type(model).__module__ == "beside_the_file"
    assert model.power == 3.0
    pipeline = built("classification", steps=[SCALER, {"estimator": "beside_the_file.Nearest"}], folder=own)
    assert pipeline.steps[-1][1].power == 2.0
    with pytest.raises(UsageError, match=r"takes no argument 'powr'\. Did you mean 'power'"):
        built("classification", estimator="beside_the_file.Nearest", powr=3.0, folder=own)
    with pytest.raises(UsageError, match="is a classifier, but the task is regression; use a regressor, or"):
        built("regression", estimator="beside_the_file.Nearest", folder=own)
    with pytest.raises(UsageError, match=r"estimator 'beside_the_fil\.Nearest': no module .*Did you mean"):
        built("classification", estimator="beside_the_fil.Nearest", folder=own)


@pytest.mark.parametrize("task", ["classification", "regression", "multilabel"])
def test_one_that_says_nothing_of_its_kind_is_let_through(own: str, task: str) -> None:
    built(task, estimator="beside_the_file.Bare", folder=own)


@pytest.mark.parametrize("path", ["xgboost.XGB", "lightgbm.LGBM", "catboost.CatBoost"])
def test_boosters_get_the_seed_and_keep_quiet(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    few = {"iterations" if "cat" in path else "n_estimators": 3}
    rows = np.random.default_rng(0).normal(size=(40, 4))
    for task, kind in (("classification", "Classifier"), ("regression", "Regressor")):
        model = built(task, estimator=path + kind, **few)
        assert model.get_params()["random_state"] == 3
        model.fit(rows, (rows[:, 0] > 0).astype(int) if task == "classification" else rows[:, 0])
        with pytest.raises(UsageError, match="but the task is"):
            built({"classification": "regression", "regression": "classification"}[task], estimator=path + kind)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert list(tmp_path.iterdir()) == []


def test_a_seed_by_another_name_stands() -> None:
    model = built("classification", estimator="catboost.CatBoostClassifier", random_seed=7, verbose=1)
    assert model.get_params()["random_seed"] == 7
    assert model.get_params()["verbose"] == 1


def test_a_package_that_is_not_installed_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_estimators, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"xgboost is not installed; .*pip install 'modelopt-cli\[boosting\]'"):
        built("classification", estimator="xgboost.XGBClassifier")


@pytest.mark.parametrize(
    ("settings", "task", "rule"),
    [
        ({"loss": "mse"}, "classification", "training.loss is 'mse', but the task is classification"),
        ({"loss": "cross_entropy"}, "regression", "training.loss is 'cross_entropy', but the task is regression"),
        ({"label_smoothing": 0.1}, "regression", "label_smoothing is set, but the task is regression"),
        ({"class_weights": [1.0, 2.0]}, "classification", "has 2 numbers, but there are 3 classes"),
    ],
)
def test_losses_and_tasks_are_compared_before_training(settings: dict[str, Any], task: Any, rule: str) -> None:
    with pytest.raises(UsageError, match=rule):
        losses.check(TrainingSettings(**settings), task, 3)
    losses.check(TrainingSettings(), task, 3)


def test_defaults_are_known_of_base_classes_and_of_one_s_own(own: str) -> None:
    """What a warm start takes for an argument that an earlier file did not name."""
    assert _estimators.default_argument("beside_the_file.Nearest", "power", own) == 2.0
    assert _estimators.default_argument("lightgbm.LGBMClassifier", "num_leaves") == 31
    assert _estimators.default_argument("xgboost.XGBClassifier", "max_depth") is None
    for name in ("random_state", "max_dept"):
        with pytest.raises(KeyError):
            _estimators.default_argument("xgboost.XGBClassifier", name)


@pytest.mark.parametrize("steps", [False, True])
def test_an_argument_called_estimator_stands_under_arguments(steps: bool) -> None:
    outer = {
        "estimator": "sklearn.calibration.CalibratedClassifierCV",
        "cv": 4,
        "arguments": {"estimator": {"estimator": "sklearn.svm.LinearSVC", "C": 0.25}},
    }
    options: dict[str, Any] = {"steps": [SCALER, outer]} if steps else outer
    made = built("classification", **options)
    last = made.steps[-1][1] if steps else made
    assert (last.cv, last.estimator.C, last.estimator.random_state) == (4, 0.25, 3)


def test_an_estimator_that_lacks_the_one_inside_says_where_it_is_written() -> None:
    model: dict[str, Any] = {"estimator": "sklearn.model_selection.GridSearchCV", "param_grid": {"C": [1.0]}}
    with pytest.raises(UsageError, match=r"named so: arguments: \{estimator: \{estimator: sklearn\."):
        built("classification", **model)
    with pytest.raises(ValueError, match="'arguments' stands beside steps"):
        built("classification", steps=[SCALER], arguments={"cv": 3})
