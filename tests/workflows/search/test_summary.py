"""What a search came to: trials by state, failures by kind, what was won over the file's values; and its columns."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli import load, tune
from modelopt_cli.core.errors import TrialError
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.table import trials_table
from modelopt_cli.workflows.search.summary import search_summary

SEARCH: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier", "max_depth": 1},
    "tuning": {
        "objective": ["maximize validation.accuracy", "minimize model.size_bytes"],
        "trials": 3,
        "sampler": "random",
        "space": {"model.max_depth": {"int": [1, 5]}},
    },
}


def study(*objective: str, constraints: tuple[str, ...] = ()) -> Study:
    return Study({"x": {"float": [0, 1]}}, "random", objective or "minimize loss", constraints=constraints)


def test_the_file_s_own_values_are_the_baseline() -> None:
    report = tune(load(SEARCH))
    trials = report.records("trials")
    assert report.details["trials"] == {"completed": 3}
    baseline = report.details["baseline"]
    assert (baseline["trial"], baseline["state"]) == (0, "completed")
    assert baseline["metrics"]["validation.accuracy"] == trials[0]["validation.accuracy"]
    assert report.best is not None
    assert report.details["improvement"] == pytest.approx(
        {
            "validation.accuracy": report.best["metrics"]["validation.accuracy"] - trials[0]["validation.accuracy"],
            "model.size_bytes": trials[0]["model.size_bytes"] - report.best["metrics"]["model.size_bytes"],
        }
    )


def test_without_own_values_there_is_no_baseline() -> None:
    report = tune(load({**SEARCH, "tuning": {**SEARCH["tuning"], "start_from_file": False}}))
    assert not {"baseline", "improvement", "failures"} & set(report.details)


def test_a_baseline_that_was_stopped_or_failed_has_no_improvement() -> None:
    for result, stopped, state in (({"loss": 2.0}, "slow", "stopped"), (ValueError("no"), "", "failed")):
        one = study()
        one.queue({"x": 0.5}, "file")
        one.tell(one.ask(), result, stopped=stopped)
        one.tell(one.ask(), {"loss": 1.0})
        summary = search_summary(one.trials, one.goals, one.best)
        assert summary["baseline"]["state"] == state
        assert "improvement" not in summary
        assert summary["trials"] == {state: 1, "completed": 1}


def test_failures_are_counted_by_kind_and_told_in_the_table() -> None:
    one = study()
    for result in ({"loss": 1.0}, {"loss": float("nan")}, TrialError("timeout", "too long"), TrialError("memory", "")):
        one.tell(one.ask(), result)
    assert search_summary(one.trials, one.goals, one.best)["failures"] == {"nan": 1, "timeout": 1, "memory": 1}
    table = trials_table(one.trials, one.space.paths)
    assert [row["failure"] for row in table.records()] == [None, "nan", "timeout", "memory"]
    assert "feasible" not in table.columns


def test_feasible_is_whether_the_constraints_are_met() -> None:
    one = study(constraints=("size <= 3",))
    for result in ({"loss": 1.0, "size": 3.0}, {"loss": 0.5, "size": 4.0}, ValueError("no")):
        one.tell(one.ask(), result)
    one.ask()
    table = trials_table(one.trials, one.space.paths)
    assert [row["feasible"] for row in table.records()] == [True, False, None, None]
    assert len(set(table.columns)) == len(table.columns)


def test_metrics_that_are_called_like_the_new_columns_have_another_name() -> None:
    one = study("minimize failure", constraints=("feasible <= 1",))
    one.tell(one.ask(), {"failure": 0.25, "feasible": 2.0})
    one.tell(one.ask(), ValueError("no"))
    rows = trials_table(one.trials, one.space.paths).records()
    assert (rows[0]["metric.failure"], rows[0]["metric.feasible"]) == (0.25, 2.0)
    assert (rows[0]["failure"], rows[0]["feasible"], rows[1]["failure"]) == (None, False, "error")
