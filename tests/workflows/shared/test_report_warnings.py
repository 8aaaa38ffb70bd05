"""No report forgets what was told on the way to it: by scikit-learn, torch, folds, workers of a search, or teachers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli import Report, distill, load, prune, train, tune
from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.workflows.runs.cross_validation import CrossValidationRun
from modelopt_cli.workflows.runs.subset import SizedRun
from modelopt_cli.workflows.shared import data_cache, reporting

TOLD = "ConvergenceWarning: lbfgs failed to converge after 2 iteration(s) (status=1):"
LOGISTIC: dict[str, Any] = {
    "version": 1,
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "sklearn", "estimator": "sklearn.linear_model.LogisticRegression", "max_iter": 2},
}
MLP: dict[str, Any] = {
    **LOGISTIC,
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 2, "batch_size": 32, "optimizer": {"type": "adam", "lr": 0.01}},
}
WARY = """\
import warnings
from torch import nn

class Wary(nn.Sequential):
    def forward(self, inputs):
        warnings.warn("outputs are not scaled", stacklevel=1)
        return super().forward(inputs)

def build(inputs, outputs, **_):
    warnings.warn("built without a seed", stacklevel=1)
    return Wary(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))
"""
WARNED = ["UserWarning: built without a seed", "UserWarning: outputs are not scaled"]


def searched(document: dict[str, Any], **tuning: Any) -> dict[str, Any]:
    section = {"objective": "maximize validation.accuracy", "sampler": "grid", "executor": "serial", **tuning}
    return {**document, "tuning": section}


@pytest.fixture
def wary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A module of the user's own that warns when it is built and whenever it is called."""
    (tmp_path / "wary.py").write_text(WARY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    warnings.simplefilter("default", UserWarning)
    return {**MLP, "model": {"type": "python", "target": "wary:build"}}


def test_an_estimator_that_did_not_converge_says_so_in_report_and_model(tmp_path: Path) -> None:
    report = train(load(LOGISTIC), tmp_path / "run")
    assert report.warnings == [TOLD]
    assert json.loads((tmp_path / "run/report.json").read_text())["warnings"] == [TOLD]
    assert report.model.warnings == [TOLD]


def test_folds_and_the_final_fit_tell_it_once() -> None:
    assert train(load({**LOGISTIC, "evaluation": {"cv": 3}})).warnings == [TOLD]


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "cv"), [("serial", None), ("serial", 3), ({"type": "processes"}, None)])
def test_the_best_model_of_a_search_tells_it(executor: Any, cv: int | None, tmp_path: Path) -> None:
    document = searched(LOGISTIC, space={"model.C": [0.1, 1.0]}, executor=executor, workers=1)
    report = tune(load({**document, "evaluation": {"cv": cv}}), tmp_path / "run")
    assert report.warnings == [TOLD]


@pytest.mark.slow
def test_warnings_of_folds_reach_the_report_though_the_final_fit_has_none(tmp_path: Path) -> None:
    """Each fold's fit ends early by its number of samples; the final one, of more samples, does not."""
    (tmp_path / "few.py").write_text(
        "import warnings\n"
        "from sklearn.tree import DecisionTreeClassifier\n"
        "class Few(DecisionTreeClassifier):\n"
        "    def fit(self, X, y):\n"
        "        if len(X) < 100: warnings.warn('few samples')\n"
        "        return super().fit(X, y)\n"
    )
    document = {**LOGISTIC, "model": {"type": "sklearn", "estimator": "few.Few"}, "evaluation": {"cv": 3}}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        expected = ["UserWarning: few samples"]
        section = searched(document, space={"model.max_depth": [1, 2]}, executor={"type": "processes"}, workers=1)
        warned = tune(load(section)).warnings
        assert [text for text in warned if "--trust-code" not in text] == expected


@pytest.mark.slow
def test_a_torch_model_s_own_warnings_are_kept(wary: dict[str, Any], tmp_path: Path) -> None:
    assert train(load(wary)).warnings == WARNED
    document = searched(wary, space={"training.batch_size": [32, 64]}, executor={"type": "processes"}, workers=1)
    assert tune(load(document)).warnings == WARNED


def test_pruning_tells_what_training_told(wary: dict[str, Any]) -> None:
    pruned = {**wary, "pruning": {"amount": 0.5}}
    assert prune(load(pruned)).warnings == WARNED
    document = searched(pruned, workflow="prune", space={"pruning.amount": [0.3, 0.5]})
    assert tune(load(document)).warnings == WARNED, "of the model that all trials share"


@pytest.mark.slow
def test_a_teacher_that_did_not_converge_is_told_by_name(tmp_path: Path) -> None:
    section = {"teacher": {"model": LOGISTIC["model"]}, "losses": ["soft_targets"]}
    first = distill(load({**MLP, "distillation": section}), tmp_path / "run")
    assert f"teacher: {TOLD}" in first.warnings
    document = searched({**MLP, "distillation": section}, workflow="distill", space={"training.batch_size": [32, 64]})
    assert f"teacher: {TOLD}" in tune(load(document)).warnings, "from the stage file of all trials"


def test_over_seeds_each_text_stands_once() -> None:
    assert train(load({**LOGISTIC, "seeds": 2})).warnings == [TOLD]


def test_notes_of_the_data_stand_in_every_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_cache, "data_notes", lambda _: ["column 'a': odd"])
    experiment = load(searched(MLP, space={"training.batch_size": [32, 64]}))
    reports: list[Report] = [train(experiment), tune(experiment), reporting.planned("train", experiment, {})]
    reports.append(prune(load({**MLP, "pruning": {"amount": 0.5}})))
    reports.append(train(load({**MLP, "seeds": 2})))
    assert [report.warnings for report in reports] == [["column 'a': odd"]] * len(reports)


def test_states_of_runs_keep_them() -> None:
    folds = CrossValidationRun([], lambda _: None, {"folds": [{"a": 1.0}], "warnings": ["told"]})  # type: ignore[arg-type,return-value]
    assert folds.warnings == folds.state()["warnings"] == ["told"]
    assert CrossValidationRun([], lambda _: None, [{"a": 1.0}]).warnings == [], "as it once was"  # type: ignore[arg-type,return-value]
    sized = SizedRun([1, 2], lambda: None, lambda _: None, lambda _: 1, (1, {"a": 1.0}, ["told"]))  # type: ignore[arg-type,return-value]
    assert sized.warnings == ["told"]
    assert SizedRun([1], lambda: None, lambda _: None, lambda _: 1, (1, {})).warnings == []  # type: ignore[arg-type,return-value]


def test_a_log_holds_each_text_once_and_spares_developers_their_notes() -> None:
    log = WarningLog(["first"])
    with log.recording(every=True):
        for text in ("told\nand more", "told", "again"):
            warnings.warn(text, stacklevel=1)
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
    assert log.texts == ["first", "UserWarning: told", "UserWarning: again"]


def test_what_was_told_before_a_failure_is_shown() -> None:
    log = WarningLog()

    def fail() -> None:
        with log.recording(every=True):
            warnings.warn("told", stacklevel=1)
            raise KeyError

    with pytest.warns(UserWarning, match="told"), pytest.raises(KeyError):
        fail()
    assert log.texts == ["UserWarning: told"]
