"""Searches on a Ray cluster of several nodes, all on this machine, some of which are killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.errors import SearchError, UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.executors import Event, Limits, Pool
from modelopt_cli.tuning.executors.ray import Ray, Resources
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.search import search
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.ray_cluster import Nodes, connected
from tests.support.search_objectives import (
    CurveObjective,
    OpenEndedObjective,
    SlowObjective,
)
from tests.support.study_logs import logged, replayed
from tests.support.waiting import PATIENCE, TurnedClock

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [  # Ray 2.49 leaves files open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SPACE = {"x": {"float": [0.0, 1.0]}}
TOTAL = 9


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    cluster = Nodes()
    with connected(cluster):
        yield cluster
    cluster.close()


def on(nodes: Nodes, **resources: float) -> Ray:
    return Ray(address=nodes.address, resources=Resources(**resources))


def build(name: str) -> Any:
    return FAMILIES["schedulers"].get(name)()


def assert_curves_are_whole(trials: Sequence[Trial]) -> None:
    """Every step once, in order, with the loss that belongs to it."""
    for trial in trials:
        assert [point.step for point in trial.curve] == list(range(trial.born + 1, trial.step + 1))
        losses = [None if point.losses is None else point.losses[0] for point in trial.curve]
        assert losses == [trial.params["x"] + 1 / point.step for point in trial.curve]


@pytest.mark.slow
def test_the_same_results_as_alone(nodes: Nodes) -> None:
    nodes.only(2)
    outcomes = []
    for executor in (Serial(), on(nodes)):
        study = Study(SPACE, "random", seed=5)
        Search(study, executor.open(CurveObjective(), workers=2), trials=8).run()
        outcomes.append(
            [(trial.params, trial.metrics, [point.losses for point in trial.curve]) for trial in study.trials]
        )
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["freeze_thaw", "pbt"])
def test_paused_trials_go_on_on_any_node(nodes: Nodes, tmp_path: Path, name: str) -> None:
    nodes.only(2)
    with Study(SPACE, "random", seed=2, path=tmp_path / "s") as study:
        pool = on(nodes).open(CurveObjective(TOTAL), workers=2)
        result = Search(study, pool, trials=4, scheduler=build(name)).run()
        assert_curves_are_whole(study.trials)
        assert not result.warnings
    again = replayed(tmp_path / "s", build(name))
    assert again.first is None
    assert again.asked["decisions"] > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bohb", "pbt"])
def test_a_killed_node_costs_nothing_but_time(nodes: Nodes, tmp_path: Path, name: str) -> None:
    _, second = nodes.only(2)
    killed: list[int] = []
    news: list[str] = []

    def kill_once(trial: Trial) -> None:
        """While both nodes compute, and after trials have been paused."""
        running = sum(each.state is State.RUNNING for each in study.trials)
        if not killed and len(study.trials) >= 3 and running == 2:
            nodes.kill(second)
            killed.append(trial.number)

    with Study(SPACE, seed=4, path=tmp_path / "s") as study:
        pool = on(nodes).open(SlowObjective(TOTAL), workers=2)
        search = Search(study, pool, trials=4, scheduler=build(name), on_change=kill_once, on_news=news.append)
        result = search.run()
        assert killed
        assert result.reason == "completed"
        assert_curves_are_whole(study.trials)
        assert not any(trial.state in (State.FAILED, State.RUNNING, State.PAUSED) for trial in study.trials)
        assert any(text.startswith("a worker of the Ray cluster is lost") for text in news)
        assert any(
            text.startswith("lost while the search ran: 1 worker of the Ray cluster") for text in result.warnings
        )
    ended = [number for kind, number, _ in logged(tmp_path / "s")[0] if kind == "told"]
    assert sorted(ended) == list(range(len(study.trials))), "each once"
    again = replayed(tmp_path / "s", build(name))
    assert again.first is None
    assert again.asked["decisions"] > 5
    assert again.asked["suggestions"] >= 3


def until_one(pool: Pool, wanted: Callable[[Event], bool]) -> list[Event]:
    """All events up to the first wanted one."""
    events: list[Event] = []
    deadline = time.monotonic() + PATIENCE
    while not any(map(wanted, events)):
        assert time.monotonic() < deadline, events
        events += pool.wait(0.25)
    return events


@pytest.mark.slow
def test_a_state_is_lost_with_its_node_alone(nodes: Nodes) -> None:
    (first,) = nodes.only(1)
    with on(nodes).open(SlowObjective(4), workers=1) as pool:
        for number in (0, 1):
            pool.start(Trial(number, {"x": 0.5}, 7), 2)
            until_one(pool, lambda event: event.waits)
            pool.pause(number)
        pool.start(Trial(0, {"x": 0.5}, 7), None)
        steps = [step for event in until_one(pool, lambda event: event.done) for step, _ in event.reports]
        assert steps == [3, 4], "it goes on"
        nodes.kill(first)
        nodes.add()
        pool.start(Trial(1, {"x": 0.5}, 7), None)
        steps = [step for event in until_one(pool, lambda event: event.done) for step, _ in event.reports]
        assert steps == [1, 2, 3, 4], "it begins again"


@pytest.mark.slow
def test_what_a_trial_does_to_its_process_is_its_own_failure(nodes: Nodes) -> None:
    nodes.only(1)
    study = Study({"act": ["run", "kill", "raise", "grow"], "x": {"float": [0.5, 0.5]}}, "grid")
    result = Search(study, on(nodes).open(CurveObjective(), limits=Limits(bytes=400_000_000)), trials=4).run()
    by_act = {str(trial.params["act"]): trial.failure for trial in study.trials}
    assert by_act == {"run": "", "kill": "crash", "raise": "error", "grow": "memory"}
    assert not any("lost" in text for text in result.warnings)
    study = Study({"act": ["hang"], "x": [0.5]}, "grid")
    with pytest.raises(SearchError, match="trial_timeout"):
        Search(study, on(nodes).open(CurveObjective(), limits=Limits(seconds=1.0)), trials=1).run()
    assert study.trials[0].failure == "timeout"


@pytest.mark.slow
def test_a_trial_that_takes_its_worker_along_fails_in_the_end(nodes: Nodes) -> None:
    nodes.only(1)
    news: list[str] = []
    study = Study({"act": ["run", "fell"], "x": {"float": [0.5, 0.5]}}, "grid")
    result = Search(study, on(nodes).open(CurveObjective()), trials=2, on_news=news.append).run()
    assert [trial.failure for trial in study.trials] == ["", "crash"]
    assert "its worker was lost 3 times, so that the trial may be the cause" in study.trials[1].reason
    assert sum("trial 1, which it had, goes back" in text for text in news) == 3
    assert any("workers of the Ray cluster" in text and "begun again: trial 1" in text for text in result.warnings)


@pytest.mark.slow
def test_what_cannot_be_moved_stays_where_it_is(nodes: Nodes) -> None:
    nodes.only(2)
    study = Study(SPACE, "random", seed=2)
    pool = on(nodes).open(OpenEndedObjective(4), workers=2)
    result = Search(study, pool, trials=3, scheduler=build("freeze_thaw"), open_ended=True, declared_total=4).run()
    assert_curves_are_whole(study.trials)
    assert not any("lost their state" in text for text in result.warnings)


@pytest.mark.slow
def test_a_cluster_that_shrinks_to_nothing_is_waited_for_until_the_timeout(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (only,) = nodes.only(1)
    news: list[str] = []
    alone = lambda: any("has room for a trial now" in text for text in news)  # noqa: E731
    monkeypatch.setattr(search, "time", TurnedClock(alone))
    study = Study(SPACE, "random", seed=2)
    pool = on(nodes).open(SlowObjective(100_000), workers=2)
    killed: list[int] = []

    def kill(trial: Trial) -> None:
        if trial.curve and not killed:
            nodes.kill(only)
            killed.append(trial.number)

    result = Search(study, pool, trials=3, timeout=PATIENCE, on_change=kill, on_news=news.append).run()
    assert result.reason == "timeout"
    assert "the Ray cluster has room for 1 of 2 workers; others begin when it has more" in news
    assert any("has room for a trial now; trial 0 waits for one, until tuning.timeout" in text for text in news)
    assert [trial.state for trial in study.trials] == [State.RUNNING], "none is begun that nobody can compute"


@pytest.mark.slow
def test_a_process_that_is_connected_elsewhere_is_told(nodes: Nodes) -> None:
    with pytest.raises(UsageError, match=f"this process is connected to the Ray cluster at {nodes.address}"):
        Ray(address="10.0.0.1:6379").places(None, 1)


@pytest.mark.slow
def test_more_than_any_machine_has_is_refused(nodes: Nodes) -> None:
    nodes.only(2)
    with pytest.raises(UsageError, match=r"takes 1 CPUs and 1 GPUs .*, but no .* \(there are: 0 CPUs, 0 GPUs; 1 C"):
        on(nodes, gpu=1).places(None, 1)
    with pytest.raises(UsageError, match="takes 64 CPUs"):
        on(nodes, cpu=64).open(CurveObjective())
    assert on(nodes, cpu=0.25).places(None, 1) == 8
    with pytest.raises(UsageError, match="cannot be sent to other machines"):
        on(nodes).open(type("Local", (CurveObjective,), {})())


@pytest.mark.slow
def test_a_node_without_the_package_is_told(nodes: Nodes, tmp_path: Path) -> None:
    block = "import sys\nclass Block:\n    def find_spec(self, name, path=None, target=None):\n"
    block += "        if name.partition('.')[0] == 'modelopt_cli':\n"
    block += "            raise ModuleNotFoundError(\"No module named 'modelopt_cli'\", name=name)\n"
    (tmp_path / "sitecustomize.py").write_text(block + "sys.meta_path.insert(0, Block())\n")
    nodes.only(0)
    nodes.add(environment={"PYTHONPATH": str(tmp_path)})
    with pytest.raises(UsageError, match="cannot import modelopt_cli; install it there"):
        on(nodes).open(CurveObjective())
    nodes.only(0)
