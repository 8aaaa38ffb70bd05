"""Studies and trials in a notebook, in a line, and as a data frame."""

from __future__ import annotations

import pandas as pd

from modelopt_cli import Study, Trial
from modelopt_cli.core.errors import TrialError
from tests.results.test_notebook import NASTY, Tags

SPACE = {"x": {"float": [0.0, 1.0]}, "kind": ["a", NASTY]}


def searched() -> Study:
    study = Study(SPACE, "random", "minimize loss")
    for number in range(8):
        trial = study.ask()
        if number == 5:
            study.tell(trial, TrialError("error", NASTY))
        else:
            study.tell(trial, (trial.params["x"] - 0.5) ** 2, seconds=0.25)
    study.ask()
    return study


def test_a_study_shows_its_best_and_its_last_trials() -> None:
    study = searched()
    text = study._repr_html_()  # what notebooks call
    assert "script" not in Tags(text).names
    assert study.best is not None
    for part in ("minimize loss", "9 trials: 7 completed, 1 failed, 1 running", f"trial {study.best.number}"):
        assert part in text
    assert "4 earlier trials: study.to_pandas()" in text
    assert "&lt;script&gt;" in text
    assert len(text) < 10_000
    assert "no trials yet" in Study(SPACE, "random")._repr_html_()


def test_a_trial_shows_settings_metrics_and_reason() -> None:
    trials = searched().trials
    text = trials[5]._repr_html_()
    assert Tags(text).names <= {"div", "b", "span", "table", "tbody", "tr", "td"}
    assert "failed" in text
    assert "&lt;script&gt;" in text
    assert "loss" in trials[0]._repr_html_()


def test_each_in_a_line() -> None:
    study = searched()
    assert study.best is not None
    best = study.best
    assert repr(study) == f"Study(minimize loss: 9 trials, best loss {best.loss:.4g} of trial {best.number})"
    assert repr(study.trials[0]) == f"Trial(0 completed, loss {study.trials[0].loss:.4g})"
    assert repr(study.trials[8]) == "Trial(8 running)"
    assert "\x1b" not in repr(study.trials[5])
    many = Trial(3, {}, 0, metrics={"a": 1.0, "b": 2.0}, losses=(-1.0,))
    assert repr(many) == "Trial(3 queued, loss -1)"
    assert repr(Study(SPACE, "random")) == "Study(minimize loss: 0 trials)"


def test_a_study_as_a_data_frame() -> None:
    study = searched()
    frame = study.to_pandas()
    names = ["trial", "state", "origin", "loss", "x", "kind", "seed", "seconds", "steps", "failure", "reason"]
    assert frame.columns.tolist() == names
    assert frame["trial"].tolist() == list(range(9))
    assert frame["loss"].dtype == "float64"
    assert frame["loss"].isna().tolist() == [number in (5, 8) for number in range(9)]
    assert study.best is not None
    assert frame.sort_values("loss")["trial"].iloc[0] == study.best.number
    assert frame["state"].value_counts()["completed"] == 7
    assert isinstance(Study(SPACE, "random").to_pandas(), pd.DataFrame)
