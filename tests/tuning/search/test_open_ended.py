"""Schedulers on runs whose length nobody knows before their end, as scripts are: the budget is kept all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.executors import Executor
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.search.result import SearchResult
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State
from tests.support.search_objectives import OpenEndedObjective, asked_more_than
from tests.support.study_logs import replayed

SCHEDULERS: Any = FAMILIES["schedulers"]
NAMES = [name for name in SCHEDULERS.names() if not SCHEDULERS.get(name).copies]
SPACE = {"x": {"float": [0, 1]}}


def run(
    study: Study, objective: Any, name: str, *, executor: Executor | None = None, workers: int = 1, **options: Any
) -> SearchResult:
    scheduler: Any = FAMILIES["schedulers"].get(name)()
    pool = (executor or Serial()).open(objective, workers)
    return Search(study, pool, scheduler=scheduler, open_ended=True, **options).run()


def steps(study: Study) -> int:
    return sum(trial.step for trial in study.trials)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("declared_total", [None, 9, 3, 30])
def test_the_steps_of_so_many_complete_trials_are_spent(name: str, declared_total: int | None) -> None:
    """Whatever the user says of their number, what was seen counts as soon as one has ended."""
    study = Study(SPACE, "random", seed=1)
    result = run(study, OpenEndedObjective(9), name, trials=6, declared_total=declared_total)
    assert result.reason == "completed"
    assert 6 * 9 - 9 <= steps(study) <= 6 * 9 + 9
    assert len(study.trials) > 6, "they are divided among more"
    complete = [trial for trial in study.trials if trial.state is State.COMPLETED]
    assert complete
    assert {trial.total for trial in complete} == {9}
    assert all(trial.state in (State.COMPLETED, State.STOPPED) for trial in study.trials), "nothing is left paused"
    assert not any("lost their state" in warning for warning in result.warnings), "they were suspended"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_four_workers_spend_no_more(name: str) -> None:
    study = Study(SPACE, "random", seed=1)
    result = run(study, OpenEndedObjective(9), name, trials=6, workers=4, executor=Processes())
    assert 6 * 9 - 9 <= steps(study) <= 6 * 9 + 9
    assert not any("lost their state" in warning for warning in result.warnings)


@pytest.mark.parametrize("name", NAMES)
def test_of_trials_that_differ_the_longest_counts(name: str) -> None:
    study = Study(SPACE, "random", seed=1)
    run(study, OpenEndedObjective((3, 12)), name, trials=6)
    longest = max(trial.total or 0 for trial in study.trials if trial.state is State.COMPLETED)
    assert 6 * longest - longest <= steps(study) <= 6 * longest + longest


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_that_reports_no_step_has_one(name: str) -> None:
    study = Study(SPACE, "random", seed=1)
    run(study, OpenEndedObjective(9, every=0), name, trials=6)
    assert [trial.state for trial in study.trials] == [State.COMPLETED] * 6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_steps_that_lie_far_apart(name: str) -> None:
    study = Study(SPACE, "random", seed=1)
    run(study, OpenEndedObjective(9 * 10**12, every=10**12), name, trials=6)
    total = 9 * 10**12
    assert 6 * total - total <= steps(study) <= 6 * total + total
    assert any(trial.state is State.COMPLETED for trial in study.trials)


@pytest.mark.parametrize("name", NAMES)
def test_trials_that_all_fail_end_the_search(name: str) -> None:
    from modelopt_cli.core.errors import SearchError

    study = Study({"x": {"float": [0, 1]}, "act": ["none"]}, "random", seed=1)
    with pytest.raises(SearchError, match="every trial failed"):
        run(study, _Failing(), name, trials=4, max_failures=None)
    assert len(study.trials) == 4


class _Failing(OpenEndedObjective):
    def open(self, params: Any, seed: int, state: Any = None) -> Any:
        raise ValueError("no such luck")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("declared_total", [None, 9])
def test_cut_off_anywhere_it_goes_on_to_the_same_end(name: str, declared_total: int | None, tmp_path: Path) -> None:
    whole = Study(SPACE, "random", seed=4)
    run(whole, OpenEndedObjective(9), name, trials=3, declared_total=declared_total)
    expected = [(trial.params, [point.losses for point in trial.curve], trial.losses) for trial in whole.trials]
    path = tmp_path / "s"
    for cut in range(1, 30, 3):
        with Study(SPACE, "random", seed=4, path=path) as study:
            run(study, OpenEndedObjective(9), name, trials=3, declared_total=declared_total, stop=asked_more_than(cut))
    with Study(SPACE, "random", seed=4, path=path) as study:
        run(study, OpenEndedObjective(9), name, trials=3, declared_total=declared_total)
        assert [(t.params, [p.losses for p in t.curve], t.losses) for t in study.trials] == expected
    scheduler: Any = FAMILIES["schedulers"].get(name)()
    again = replayed(path, scheduler)
    assert again.first is None
    assert again.asked["decisions"] > 0
