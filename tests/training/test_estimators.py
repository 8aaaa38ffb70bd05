"""Estimators against scikit-learn's own cross_val_score and metrics."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from modelopt_cli.core.errors import TrialError, UsageError
from modelopt_cli.training import estimators
from modelopt_cli.training.metrics import scoring
from tests.support.training_fakes import held, part, prepared

CLASSIFIERS = [
    RandomForestClassifier(n_estimators=5, random_state=0),
    LogisticRegression(max_iter=1000),
    SVC(),
    LinearSVC(),
    KNeighborsClassifier(),
    make_pipeline(StandardScaler(), GaussianNB()),
]


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda estimator: type(estimator).__name__)
def test_fold_scores_are_cross_val_scores(estimator: Any) -> None:
    inputs, targets = load_iris(return_X_y=True)
    folds = list(StratifiedKFold(5).split(inputs, targets))
    by_fold = []
    for train, validation in folds:
        estimators.fit(estimator, part(inputs[train], targets[train]))
        held_out = part(inputs[validation], targets[validation])
        measured = estimators.evaluate(estimator, held_out, "classification", prefix="validation.", classes=3)
        wanted = ["validation.accuracy"]
        fast = estimators.evaluate(estimator, held_out, "classification", prefix="validation.", wanted=wanted)
        assert fast == {"validation.accuracy": measured["validation.accuracy"]}
        by_fold.append(measured["validation.accuracy"])
    assert by_fold == list(cross_val_score(estimator, inputs, targets, cv=5))


def test_probabilities_and_decision_values_give_sklearns_ranking_metrics() -> None:
    data = prepared()
    test = held(data.test)
    forest = RandomForestClassifier(n_estimators=20, random_state=0)
    estimators.fit(forest, data.train)
    shares = forest.predict_proba(test.inputs)
    metrics = estimators.evaluate(forest, test, "classification", prefix="", classes=3)
    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(test.targets, shares, multi_class="ovr"))
    assert metrics["log_loss"] == pytest.approx(log_loss(test.targets, shares))
    assert metrics["f1"] == pytest.approx(f1_score(test.targets, forest.predict(test.inputs), average="macro"))
    two = prepared(outputs=2)
    machine = SVC()
    estimators.fit(machine, two.train)
    metrics = estimators.evaluate(machine, held(two.test), "classification", prefix="", classes=2)
    assert metrics["roc_auc"] == pytest.approx(
        roc_auc_score(held(two.test).targets, machine.decision_function(held(two.test).inputs))
    )
    assert "log_loss" not in metrics


def test_a_class_that_training_lacked_has_probability_zero() -> None:
    data = prepared()
    data.train.targets[data.train.targets == 1] = 2
    for estimator in (GaussianNB(), SVC()):
        estimators.fit(estimator, data.train)
        scored = estimators.scores(estimator, held(data.test).inputs, "classification", 3)
        assert scoring.probabilities("classification", scored).shape == (20, 3)
        assert not scoring.probabilities("classification", scored)[:, 1].any()
        measured = estimators.evaluate(estimator, held(data.test), "classification", prefix="", classes=3)
        assert 0 < measured["accuracy"] < 1


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(n_estimators=5, random_state=0),
        MultiOutputClassifier(LogisticRegression()),
        MLPClassifier((8,), max_iter=20, random_state=0),
        KNeighborsClassifier(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("labels", [1, 4])
def test_multilabel_probabilities_have_a_column_a_label(estimator: Any, labels: int) -> None:
    inputs, targets = make_multilabel_classification(80, n_classes=4, random_state=0)
    chosen = targets[:, :labels].astype(np.float32)
    if labels == 1 and isinstance(estimator, MultiOutputClassifier):
        pytest.skip("scikit-learn asks for two columns at least")
    estimators.fit(estimator, part(inputs, chosen))
    scored = estimators.scores(estimator, inputs, "multilabel", labels)
    assert isinstance(scored, scoring.Scores)
    assert scored.values is not None
    assert scored.predictions is not None
    assert scored.values.shape == scored.predictions.shape == (80, labels)
    agreement = np.mean((scored.values > 0.5) == scored.predictions)
    assert agreement > 0.95  # ties at one half may go either way
    measured = estimators.evaluate(estimator, part(inputs, chosen), "multilabel", prefix="", classes=labels)
    expected = [f1_score(chosen[:, i], estimator.predict(inputs).reshape(80, -1)[:, i]) for i in range(labels)]
    assert measured["f1"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("outputs", [1, 2])
def test_regression_predicts_a_column_an_output(outputs: int) -> None:
    data = prepared("regression", outputs=outputs)
    test = held(data.test)
    for estimator in (LinearRegression(), RandomForestRegressor(n_estimators=5, random_state=0)):
        estimators.fit(estimator, data.train)
        values = estimators.scores(estimator, test.inputs, "regression")
        assert isinstance(values, np.ndarray)
        assert values.shape == (20, outputs)
        metrics = estimators.evaluate(estimator, test, "regression", prefix="test.")
        assert metrics["test.r2"] == pytest.approx(estimator.score(test.inputs, test.targets), abs=1e-6)


def test_sample_weights_reach_estimators_pipelines_and_nobody_else() -> None:
    data = prepared("regression", outputs=1, weighted=True)
    expected = Ridge().fit(data.train.inputs, data.train.targets[:, 0], data.train.weights).coef_
    for estimator in (Ridge(), make_pipeline("passthrough", Ridge())):
        assert estimators.fit(estimator, data.train) == []
        last = estimator[-1] if hasattr(estimator, "steps") else estimator
        assert np.array_equal(last.coef_, expected)
    classes = prepared(weighted=True)
    assert estimators.fit(KNeighborsClassifier(), classes.train) == [
        "KNeighborsClassifier takes no sample weights; it was fitted without them"
    ]


def test_images_become_rows() -> None:
    data = prepared(features=6)
    tree = DecisionTreeClassifier(random_state=0)
    images = part(data.train.inputs.reshape(-1, 1, 2, 3), data.train.targets)
    estimators.fit(tree, images)
    assert estimators.evaluate(tree, images, "classification", prefix="", classes=3)["accuracy"] == 1.0


def test_warnings_are_returned_once_and_not_printed() -> None:
    data = prepared()
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
        noted = estimators.fit(MLPClassifier((4,), max_iter=2, random_state=0), data.train)
    assert len(noted) == 1
    assert noted[0].startswith("ConvergenceWarning: Stochastic Optimizer: Maximum iterations (2)")
    assert shown.getvalue() == ""


def test_errors_are_one_line_of_ours() -> None:
    data = prepared()
    with pytest.raises(UsageError, match="'n_estimators' parameter of RandomForestClassifier must be") as refused:
        estimators.fit(RandomForestClassifier(n_estimators=-1), data.train)
    neighbours = KNeighborsClassifier(n_neighbors=500)
    estimators.fit(neighbours, data.train)
    with pytest.raises(TrialError, match="KNeighborsClassifier: Expected n_neighbors <= n_samples_fit") as failed:
        estimators.evaluate(neighbours, held(data.test), "classification", prefix="", classes=3)
    assert failed.value.kind == "error"
    assert "\n" not in str(refused.value) + str(failed.value)


def test_memory_that_runs_out_is_told_as_such() -> None:
    class Greedy:
        def fit(self, inputs: Any, targets: Any) -> None:
            raise MemoryError("Unable to allocate 9 TiB")

        def __sklearn_tags__(self) -> Any:
            return GaussianNB().__sklearn_tags__()

    with pytest.raises(TrialError, match="Greedy: Unable to allocate 9 TiB") as caught:
        estimators.fit(Greedy(), prepared().train)
    assert caught.value.kind == "memory"


class Fixed(DecisionTreeClassifier):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts what it is told to."""

    answer: Any = 0

    def predict(self, X: Any, check_input: bool = True) -> Any:
        return np.full(len(X), self.answer)


@pytest.mark.parametrize("answer", [0.7, np.nan, -1, 3, 2.0**40])
def test_predictions_that_are_no_class_are_told_not_cut_off(answer: float) -> None:
    inputs, targets = load_iris(return_X_y=True)
    model = Fixed()
    estimators.fit(model, part(inputs, targets))
    model.answer = answer
    with pytest.raises(TrialError, match=r"Fixed: it predicts .*, which is no class"):
        estimators.scores(model, inputs, "classification", 3)
    model.answer = 2.0
    answers = estimators.scores(model, inputs, "classification", 3)
    assert isinstance(answers, scoring.Scores)
    assert answers.predictions is not None
    assert set(answers.predictions) == {2}


def test_what_an_estimator_writes_into_its_inputs_stays_with_it() -> None:
    inputs, targets = load_iris(return_X_y=True)
    data = part(inputs.copy(), targets)
    model = make_pipeline(StandardScaler(copy=False), LogisticRegression(max_iter=1000))
    estimators.fit(model, data)
    estimators.scores(model, data.inputs, "classification", 3)
    np.testing.assert_array_equal(data.inputs, inputs)


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_targets_that_a_booster_would_round_are_told(package: str) -> None:
    module = pytest.importorskip(package)
    kind = module.XGBRegressor if package == "xgboost" else module.LGBMRegressor
    quiet = {} if package == "xgboost" else {"verbosity": -1}
    draw = np.random.default_rng(0).normal(size=(60, 2))
    rounded = part(draw, 1.7e9 + 300 * draw[:, :1])
    (warning,) = [text for text in estimators.fit(kind(n_estimators=3, **quiet), rounded) if "float32" in text]
    assert "rounds these by up to 63.9 " in warning
    assert "TransformedTargetRegressor" in warning
    pipeline = make_pipeline(StandardScaler(), kind(n_estimators=3, **quiet))
    noted = estimators.fit(pipeline, part(draw, 300 * draw[:, :1]))
    assert not any("float32" in text for text in noted)


def test_an_estimator_of_one_target_is_told_that_there_are_several() -> None:
    draw = np.random.default_rng(0).normal(size=(40, 3))
    for model, targets in ((LogisticRegression(), (draw > 0).astype(np.float32)), (SVR(), draw)):
        with pytest.raises(UsageError, match=r"learns one target, but the data have 3; .* MultiOutput"):
            estimators.fit(model, part(draw, targets))
