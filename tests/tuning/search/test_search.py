"""The search loop with both executors: results, failures of all kinds, limits, stopping, resuming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.errors import SearchError, UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.executors import Limits, _worker_process
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.objective import Run
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.stoppers.median import Median
from modelopt_cli.tuning.stoppers.patience import Patience
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.search_objectives import Curve, CurveObjective, SlowToPrepare
from tests.support.waiting import PATIENCE, TurnedClock

SPACE = {"x": {"float": [0, 1]}}


def acts(*names: str) -> dict[str, object]:
    return {"act": list(names), "x": {"float": [0.5, 0.5]}}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if FAMILIES["executors"].get(name).extra else [])
        for name in FAMILIES["executors"].names()
    ],
)
def test_every_executor_runs_a_search(name: str) -> None:
    study = Study(SPACE, "random", seed=3)
    changes: list[Trial] = []
    executor: Any = FAMILIES["executors"].get(name)()
    result = Search(study, executor.open(CurveObjective(), workers=2), trials=6, on_change=changes.append).run()
    assert result.reason == "completed"
    assert result.peak_bytes > 0
    assert [trial.state for trial in study.trials] == [State.COMPLETED] * 6
    assert all(len(trial.curve) == 4 for trial in study.trials)
    assert study.best is not None
    assert study.best.losses == min(trial.losses for trial in study.trials if trial.losses is not None)
    assert {trial.number for trial in changes} == set(range(6))


@pytest.mark.slow
def test_serial_and_processes_agree_trial_by_trial() -> None:
    outcomes = []
    for executor in (Serial(), Processes()):
        study = Study(SPACE, "random", seed=5)
        Search(study, executor.open(CurveObjective(), workers=2), trials=8).run()
        outcomes.append([(trial.params, trial.seed, dict(trial.metrics)) for trial in study.trials])
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
def test_failures_are_contained_and_classified_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(acts("run", "kill", "hang", "raise", "diverge", "nan", "grow"), "grid")
    # The time is up when all but the one that hangs have ended.
    clock = TurnedClock(lambda: sum(trial.state is not State.RUNNING for trial in study.trials) == 6)
    monkeypatch.setattr(_worker_process, "time", clock)
    limits = Limits(seconds=PATIENCE, bytes=500_000_000)
    result = Search(study, Processes().open(CurveObjective(), workers=2, limits=limits), trials=7).run()
    by_act = {trial.params["act"]: trial for trial in study.trials}
    assert by_act["run"].state is State.COMPLETED
    kinds = {act: trial.failure for act, trial in by_act.items() if trial.state is State.FAILED}
    assert kinds == {
        "kill": "crash", "hang": "timeout", "raise": "error", "diverge": "nan", "nan": "nan", "grow": "memory",
    }  # fmt: skip
    assert "SIGKILL" in by_act["kill"].reason
    assert by_act["raise"].reason.startswith("ValueError: no such luck (search_objectives.py:")
    assert "trial_timeout" in by_act["hang"].reason
    assert any("6 of 7 trials failed" in warning for warning in result.warnings)


def test_what_a_worker_prepares_is_not_charged_to_its_first_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour passes while it prepares."""
    clock = TurnedClock((tmp_path / "begun").exists)
    monkeypatch.setattr(_worker_process, "time", clock)
    monkeypatch.setattr(_worker_process, "_START_SECONDS", 2 * 3600.0)
    study = Study(SPACE, "random")
    pool = Processes().open(SlowToPrepare(tmp_path), limits=Limits(seconds=PATIENCE))

    def answer() -> bool:
        if clock.jumped:
            (tmp_path / "over").touch()
        return False

    Search(study, pool, trials=2, stop=answer).run()
    assert clock.jumped
    assert [trial.state for trial in study.trials] == [State.COMPLETED] * 2


@pytest.mark.slow
def test_serial_contains_exceptions_and_checks_the_clock_between_steps() -> None:
    study = Study(acts("run", "raise", "diverge"), "grid")
    Search(study, Serial().open(CurveObjective()), trials=3).run()
    assert [trial.failure for trial in study.trials] == ["", "error", "nan"]
    study = Study(SPACE, "random")
    with pytest.raises(SearchError, match="trial_timeout"):
        Search(study, Serial().open(CurveObjective(10**12), limits=Limits(seconds=0.05)), trials=1).run()


def test_serial_refuses_a_memory_limit() -> None:
    with pytest.raises(UsageError, match="trial_memory needs worker processes"):
        Search(Study(SPACE, "random"), Serial().open(CurveObjective(), limits=Limits(bytes=1)), trials=1).run()


def test_every_trial_failing_is_an_error_with_the_reasons() -> None:
    with pytest.raises(SearchError, match=r"every trial failed \(3 of 3\).*3x ValueError: no such luck"):
        Search(Study({"x": [1, 2, 3], "act": ["raise"]}, "grid"), Serial().open(CurveObjective()), trials=3).run()


def test_max_failures_in_a_row() -> None:
    study = Study({"x": list(range(9)), "act": ["raise"]}, "grid")
    with pytest.raises(SearchError, match="4 trials failed in a row"):
        Search(study, Serial().open(CurveObjective()), trials=9, max_failures=4).run()
    assert len(study.trials) == 4


@pytest.mark.parametrize("executor", [Serial(), Processes()], ids=["serial", "processes"])
def test_a_stopper_ends_trials_early(executor: Serial | Processes) -> None:
    study = Study({"x": [0.0, 0.1, 0.2, 5.0]}, "grid")
    Search(study, executor.open(CurveObjective(6)), trials=4, stopper=Median(startup_trials=2, warmup_steps=1)).run()
    states = [trial.state for trial in study.trials]
    assert states == [State.COMPLETED, State.COMPLETED, State.COMPLETED, State.STOPPED]
    assert study.trials[3].metrics["steps"] == 2
    assert "median" in study.trials[3].reason


def test_patience_never_stops_a_trial_that_improves() -> None:
    study = Study(SPACE, "random")
    Search(study, Serial().open(CurveObjective(8)), trials=2, stopper=Patience(reports=2)).run()
    assert [len(trial.curve) for trial in study.trials] == [8, 8]


@pytest.mark.slow
@pytest.mark.parametrize("executor", [Serial(), Processes()], ids=["serial", "processes"])
def test_an_interrupted_search_resumes_to_the_same_result(tmp_path: Path, executor: Serial | Processes) -> None:
    whole = Study(SPACE, "random", seed=1)
    Search(whole, Serial().open(CurveObjective()), trials=6).run()

    path = tmp_path / "study.sqlite"
    with Study(SPACE, "random", seed=1, path=path) as study:
        stop = lambda: len(study.trials) > 2  # noqa: E731
        assert Search(study, executor.open(CurveObjective()), trials=6, stop=stop).run().reason == "interrupted"
        assert study.trials[-1].state is State.RUNNING
    with Study(SPACE, "random", seed=1, path=path) as study:
        order = []
        Search(
            study, executor.open(CurveObjective()), trials=6, on_change=lambda trial: order.append(trial.number)
        ).run()
        assert order[0] == 2, "the interrupted trial is run first"
        assert 0 not in order, "what was finished is not run again"
        resumed = [(trial.params, trial.losses) for trial in study.trials]
    assert resumed == [(trial.params, trial.losses) for trial in whole.trials]


def test_a_finite_space_ends_when_it_is_exhausted() -> None:
    study = Study({"x": [1, 2, 3]}, "random")
    assert Search(study, Serial().open(CurveObjective()), trials=50).run().reason == "exhausted"
    assert sorted(trial.params["x"] for trial in study.trials) == [1, 2, 3]


@pytest.mark.slow
def test_timeout_leaves_the_trial_to_be_resumed() -> None:
    study = Study(SPACE, "random")
    result = Search(study, Serial().open(CurveObjective(10**12)), trials=3, timeout=0.2).run()
    assert result.reason == "timeout"
    assert [trial.state for trial in study.trials] == [State.RUNNING]


class _Sized(Curve):
    """Its size is known when it has ended only."""

    def metrics(self) -> dict[str, float]:
        return {**super().metrics(), "size": 1.0 - self.params["x"]}


class _SizedObjective(CurveObjective):
    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return _Sized(params, seed, self.total, state or 0)


@pytest.mark.parametrize("stopper", [Median(), None])
def test_a_stopper_that_has_nothing_to_compare_by_is_told(stopper: Median | None) -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", ["minimize loss", "minimize size"])
    result = Search(study, Serial().open(_SizedObjective()), trials=4, stopper=stopper).run()
    remarks = [warning for warning in result.warnings if "nothing to compare trials by" in warning]
    assert len(remarks) == (stopper is not None)
    assert all(trial.state is State.COMPLETED for trial in study.trials)
