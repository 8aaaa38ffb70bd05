"""Contract of every scheduler (a new file is tested at once): on recorded and on real curves, cut off, replayed.

Private modules are looked into where a search shows their arithmetic only dimly: the sizes of brackets, kept states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.executors._paused_states import IN_BYTES, PausedStates, packed, unpacked
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.schedulers import Scheduler
from modelopt_cli.tuning.schedulers._brackets import halving, shorter
from modelopt_cli.tuning.schedulers._freeze_thaw import stages
from modelopt_cli.tuning.search import search
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.search.simulator import Curve, Simulated, simulate
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.search_objectives import CurveObjective, TensorObjective, asked_more_than
from tests.support.study_logs import replayed
from tests.support.waiting import PATIENCE, TurnedClock

NAMES = FAMILIES["schedulers"].names()
SPACE = {"x": {"float": [0, 1]}, "y": {"choice": [{"type": "a"}, {"type": "b", "z": {"int": [1, 5]}}]}}
TOTAL = 9


def build(name: str) -> Scheduler:
    scheduler = FAMILIES["schedulers"].get(name)()
    assert isinstance(scheduler, Scheduler)
    return scheduler


def curve(params: Any) -> Curve:
    """Slow starters end best: losses cross."""
    x = params["x"]
    return [(1.0 + x, {"loss": (1 - x) ** 2 + (1 + 3 * x) / step}) for step in range(1, TOTAL + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_steps_of_so_many_complete_trials_are_spent(name: str, workers: int) -> None:
    study = Study(SPACE, "random", seed=1)
    simulated = simulate(study, curve, trials=6, workers=workers, scheduler=build(name))
    steps = sum(trial.step - trial.born for trial in study.trials)
    assert len(simulated.history) == steps, "none is done twice"
    assert 6 * TOTAL <= steps < 6 * TOTAL + workers * TOTAL
    assert len(study.trials) > 6, "they are divided among more"
    assert all(trial.state in (State.COMPLETED, State.STOPPED) for trial in study.trials), "nothing is left paused"
    assert study.best is not None
    assert study.best.loss == min(trial.curve[-1].losses[0] for trial in study.trials if trial.curve[-1].losses)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("executor", [Serial(), Processes()], ids=["serial", "processes"])
def test_real_runs_go_on_where_they_were_paused(name: str, executor: Any) -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", seed=2)
    result = Search(study, executor.open(TensorObjective(TOTAL), workers=2), trials=4, scheduler=build(name)).run()
    assert result.reason == "completed"
    for trial in study.trials:
        assert [point.step for point in trial.curve] == list(range(trial.born + 1, trial.step + 1))
        assert trial.metrics["steps"] == trial.step
        assert trial.total == TOTAL
    assert not any("lost their state" in warning for warning in result.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_cut_off_anywhere_it_goes_on_to_the_same_end(name: str, tmp_path: Path) -> None:
    whole = Study(SPACE, "random", seed=4)
    Search(whole, Serial().open(CurveObjective(TOTAL)), trials=3, scheduler=build(name)).run()
    expected = [(trial.params, [point.losses for point in trial.curve], trial.losses) for trial in whole.trials]
    path = tmp_path / "s"
    for cut in range(1, 40, 2):
        with Study(SPACE, "random", seed=4, path=path) as study:
            Search(
                study, Serial().open(CurveObjective(TOTAL)), trials=3, scheduler=build(name), stop=asked_more_than(cut)
            ).run()
    with Study(SPACE, "random", seed=4, path=path) as study:
        Search(study, Serial().open(CurveObjective(TOTAL)), trials=3, scheduler=build(name)).run()
        assert [(t.params, [p.losses for p in t.curve], t.losses) for t in study.trials] == expected
    again = replayed(path, build(name))
    assert again.first is None
    assert again.asked["decisions"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_parallel_search_is_replayed(name: str, tmp_path: Path) -> None:
    with Study(SPACE, seed=5, path=tmp_path / "s") as study:
        Search(study, Processes().open(CurveObjective(TOTAL), workers=2), trials=4, scheduler=build(name)).run()
    again = replayed(tmp_path / "s", build(name))
    assert again.first is None
    assert again.asked["decisions"] > 10


@pytest.mark.parametrize("name", NAMES)
def test_failures_and_a_finite_space(name: str) -> None:
    study = Study({"x": [0.0, 0.5, 1.0], "act": ["run", "raise"]}, "random", seed=1)
    Search(study, Serial().open(CurveObjective(TOTAL)), trials=5, scheduler=build(name), max_failures=None).run()
    begun = [str(trial.params) for trial in study.trials if trial.parent is None]
    assert len(begun) == len(set(begun)), "no setting twice"
    assert len(begun) == 6 or (build(name).copies and len(begun) == 5)
    for trial in study.trials:
        assert (trial.state is State.FAILED) == (trial.params["act"] == "raise")
    assert max(trial.step for trial in study.trials) == TOTAL


@pytest.mark.parametrize("name", NAMES)
def test_constant_losses_and_settings_that_come_first(name: str) -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", initial=[{"x": 0.25}, {"x": 0.75}])
    simulate(study, lambda params: [(1.0, {"loss": 1.0})] * 4, trials=3, scheduler=build(name))
    assert [trial.params["x"] for trial in study.trials[:2]] == [0.25, 0.75]
    assert sum(trial.step for trial in study.trials) >= 12


def test_states_of_paused_trials_lie_in_memory_then_in_files(tmp_path: Path) -> None:
    states = PausedStates(IN_BYTES, in_memory=100, folder=tmp_path / "paused")
    for number in range(3):
        states.put(number, 4, packed(bytes([number]) * 60))
    own = [unpacked(states.of(Trial(number, {}, 0))[0]) for number in range(3)]
    assert own == [bytes([n]) * 60 for n in range(3)]
    assert states.of(Trial(0, {}, 0)) == (None, ()), "who goes on has it no longer"
    assert packed(lambda: None) is None, "what cannot be pickled is run again"
    states.put(3, 1, bytes(200))
    assert [path.name for path in (tmp_path / "paused").iterdir()] == ["3.pickle"]
    states.close()
    assert not (tmp_path / "paused").exists()


def test_stages_grow_from_one_to_all() -> None:
    assert stages(9, 2.0) == [1, 2, 4, 8, 9]
    assert stages(5, 1.1) == [1, 2, 3, 4, 5]
    assert stages(1, 3.0) == [1]


def test_a_virtual_clock_counts_the_steps_of_all_workers() -> None:
    study = Study({"x": [0.0, 1.0]}, "grid")
    simulated = simulate(study, curve, trials=2, workers=2)
    assert simulated.seconds == 2.0 * TOTAL, "the slower one's steps take two seconds"
    assert [row[0] for row in simulated.history] == sorted(row[0] for row in simulated.history)
    alone = simulate(Study({"x": [0.0, 1.0]}, "grid"), curve, trials=2)
    assert alone.seconds == 3.0 * TOTAL
    cut = simulate(Study({"x": [0.0, 1.0]}, "grid"), curve, trials=2, workers=2, steps=5)
    assert len(cut.history) == 5
    assert cut.result.reason == "interrupted"
    assert simulate(Study({"x": [0.0, 1.0]}, "grid"), curve, trials=2, seconds=4.5).seconds == 4.0
    assert simulated.computed == alone.computed == 3.0 * TOTAL
    assert simulated.utilisation == alone.utilisation == 1.0
    assert simulated.events == 2 * TOTAL


def test_workers_wait_for_a_search_that_takes_its_time() -> None:
    def searched(workers: int, stopper: Stopper | None, deciding: float, trials: int = 8) -> Simulated:
        record = lambda params: [(1.0, {"loss": 1.0})] * 5  # noqa: E731
        study = Study({"x": {"float": [0, 1]}}, "random")
        return simulate(study, record, trials=trials, workers=workers, stopper=stopper, deciding=deciding)

    assert searched(1, Asha(), 0.0).seconds == 8 * 5
    assert searched(1, Asha(), 0.25).seconds == 8 * 5 * 1.25, "it waits for a decision after each step"
    assert searched(1, None, 0.25).seconds == 8 * (5 + 0.25), "asked for nothing, it computes on"
    assert searched(1, Asha(), 0.25).utilisation == pytest.approx(1 / 1.25)
    assert searched(2, Asha(), 0.25).utilisation > 0.7
    crowded = searched(8, Asha(), 0.5, trials=40)
    assert crowded.seconds >= crowded.events * 0.5, "what is decided one after another"
    assert crowded.utilisation < 0.3


def test_a_simulated_stopper_decides_as_in_a_real_search() -> None:
    space = {"x": {"float": [0, 1]}}
    real, simulated = Study(space, "random", seed=7), Study(space, "random", seed=7)
    Search(real, Serial().open(CurveObjective(TOTAL)), trials=9, stopper=Asha(factor=2)).run()
    losses = lambda params: [(1.0, {"loss": params["x"] + 1 / step}) for step in range(1, TOTAL + 1)]  # noqa: E731
    simulate(simulated, losses, trials=9, stopper=Asha(factor=2))
    assert [(t.params, t.state, t.losses) for t in real.trials] == [
        (t.params, t.state, t.losses) for t in simulated.trials
    ]


@pytest.mark.slow
def test_freeze_thaw_finds_slow_starters() -> None:
    """The best after one step are at 0, the best of all near 1."""
    best_losses: dict[str, list[float]] = {"frozen": [], "random": []}
    for seed in range(5):
        for name, scheduler in (("frozen", build("freeze_thaw")), ("random", None)):
            study = Study({"x": {"float": [0, 1]}}, "random", seed=seed)
            simulate(study, curve, trials=8, scheduler=scheduler)
            assert study.best is not None
            assert study.best.loss is not None
            best_losses[name].append(study.best.loss)
    assert sum(best_losses["frozen"]) < sum(best_losses["random"])


def test_halving_gives_each_rung_its_share_of_the_best() -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", seed=6)
    losses = lambda params: [(1.0, {"loss": params["x"] + 1 / step}) for step in range(1, TOTAL + 1)]  # noqa: E731
    simulate(study, losses, trials=3, scheduler=build("successive_halving"))
    first = study.trials[:9]
    by_loss = sorted(first, key=lambda trial: trial.params["x"])
    assert [trial.step for trial in by_loss] == [9, 3, 3, 1, 1, 1, 1, 1, 1]
    assert by_loss[0].state is State.COMPLETED
    value = f"loss {by_loss[1].curve[-1].metrics['loss']:.4g}"
    assert by_loss[1].reason == f"{value} is not among the best 1 of 3 trials at step 3"


def test_hyperbands_brackets_are_the_papers() -> None:
    """Li et al. 2018, table 1: R = 81, eta = 3."""
    longest = halving(1, 3, 81)
    assert [shorter(longest, by).sizes for by in range(5)] == [
        (81, 27, 9, 3, 1), (34, 11, 3, 1), (15, 5, 1), (8, 2), (5,)
    ]  # fmt: skip
    assert shorter(longest, 2).rungs == (9, 27, 81)


@pytest.mark.slow
def test_bohb_learns_from_the_highest_rung() -> None:
    best_losses: dict[str, list[float]] = {"bohb": [], "successive_halving": []}
    space = {name: {"float": [0, 1]} for name in "abcd"}

    def losses(params: Any) -> Curve:
        far = sum((value - 0.3) ** 2 for value in params.values())
        return [(1.0, {"loss": far + 1 / step}) for step in range(1, TOTAL + 1)]

    for seed in range(5):
        for name, own in best_losses.items():
            study = Study(space, "random", seed=seed)
            simulate(study, losses, trials=30, scheduler=build(name))
            assert study.best is not None
            assert study.best.loss is not None
            own.append(study.best.loss - 1 / TOTAL)
    assert sum(best_losses["bohb"]) < 0.5 * sum(best_losses["successive_halving"])


def test_when_time_is_up_paused_trials_count_as_of_their_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", seed=1)
    paused = lambda: any(trial.state is State.PAUSED for trial in study.trials)  # noqa: E731
    monkeypatch.setattr(search, "time", TurnedClock(paused))
    pool = Serial().open(CurveObjective(10_000))
    result = Search(study, pool, trials=None, timeout=PATIENCE, scheduler=build("freeze_thaw")).run()
    assert result.reason == "timeout"
    assert study.best is not None
    assert not any(trial.state is State.PAUSED for trial in study.trials)
    ended = [trial for trial in study.trials if trial.reason == "the search's time was up"]
    assert ended
    assert all(trial.seconds > 0 for trial in ended)
