"""Sizes of the train split as steps: every scheduler and stopper trains at each size at most once, and at no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.objective import Objective, Run, StepReport
from modelopt_cli.tuning.schedulers import Scheduler
from modelopt_cli.tuning.schedulers._brackets import halving  # private: a search shows one bracket at a time
from modelopt_cli.tuning.search.fidelity import Fidelity
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.search.settings import TuningSettings
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State
from tests.support.search_objectives import asked_more_than
from tests.support.study_logs import replayed

SPACE = {"x": {"float": [0, 1]}, "y": {"choice": [{"type": "a"}, {"type": "b", "z": {"int": [1, 5]}}]}}
SIZES = (1, 3, 9)
SCHEDULERS = [name for name in FAMILIES["schedulers"].names() if FAMILIES["schedulers"].get(name).sizes]  # type: ignore[attr-defined]
STOPPERS = [name for name in FAMILIES["stoppers"].names() if FAMILIES["stoppers"].get(name).sizes]  # type: ignore[attr-defined]
trained: list[tuple[int, int]] = []  # (seed of the trial, size), in this process


class Sized(Run):
    """Loss x + 1/step, known at SIZES alone; by luck the least size is best of all for a bad x."""

    leaps, total = True, SIZES[-1]

    def __init__(self, params: Mapping[str, Any], seed: int, step: int) -> None:
        self.params, self.seed, self.step = params, seed, step

    def advance(self, until: int) -> list[StepReport]:
        size = next(size for size in SIZES if size >= min(until, self.total))
        assert size > self.step
        trained.append((self.seed, size))
        self.step = size
        return [(size, self.metrics())]

    def metrics(self) -> dict[str, float]:
        lucky = self.step == 1 and self.params["x"] > 0.9
        return {"loss": self.params["x"] - 1 if lucky else self.params["x"] + 1 / self.step, "steps": float(self.step)}

    def state(self) -> Any:
        return self.step


class SizedObjective(Objective):
    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return Sized(params, seed, state or 0)


def strategy(family: str, name: str) -> Any:
    needed = {"threshold": {"condition": "loss <= 1.5"}, "median": {"warmup_steps": 0, "startup_trials": 2}}
    return FAMILIES[family].get(name).model_validate(needed.get(name, {}))


@given(st.floats(1e-4, 0.5), st.integers(2, 10))
def test_sizes_are_powers_of_the_factor_down_to_the_least_share(least: float, factor: int) -> None:
    if least * factor > 1:
        with pytest.raises(ValidationError, match="the full size is the only one"):
            Fidelity(least=least, factor=factor)
        return
    sizes = Fidelity(least=least, factor=factor).sizes
    assert sizes == tuple(factor**power for power in range(len(sizes)))
    assert 1 / sizes[-1] >= least * (1 - 1e-6) > 1 / (sizes[-1] * factor) * (1 - 1e-6)


def test_counts_are_rounded_up_and_the_last_is_all() -> None:
    fidelity = Fidelity()
    assert fidelity.sizes == (1, 3, 9)
    assert [fidelity.count(100, step) for step in fidelity.sizes] == [12, 34, 100]
    assert Fidelity(least=0.1, factor=10).sizes == (1, 10), "a tenth is not less than a tenth"
    assert Fidelity(least=1 / 3).sizes == (1, 3)
    assert Fidelity(least=0.5, factor=2).sizes == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("executor", [Serial(), Processes()], ids=["serial", "processes"])
def test_a_scheduler_trains_at_each_size_once_and_within_its_budget(name: str, executor: Any) -> None:
    study = Study(SPACE, "random", seed=1)
    trained.clear()
    workers = 1 if isinstance(executor, Serial) else 2
    scheduler = strategy("schedulers", name)
    result = Search(
        study,
        executor.open(SizedObjective(), workers=workers),
        trials=6,
        scheduler=scheduler,
        sizes=SIZES,
        complete=True,
    ).run()
    assert result.reason == "completed"
    assert result.warnings == []
    spent = sum(point.step for trial in study.trials for point in trial.curve)
    assert 6 * 9 <= spent < 6 * 9 + workers * 9, "each size is paid for whole"
    assert len(study.trials) > 6
    for trial in study.trials:
        steps = [point.step for point in trial.curve]
        assert steps == sorted(set(steps))
        assert set(steps) <= set(SIZES)
        assert (trial.state is State.COMPLETED) == (steps[-1] == 9)
    if workers == 1:
        assert len(trained) == len(set(trained)) == sum(len(trial.curve) for trial in study.trials)


@pytest.mark.parametrize("name", STOPPERS)
def test_a_stopper_is_asked_at_the_sizes_alone(name: str) -> None:
    study = Study(SPACE, "random", seed=1)
    trained.clear()
    Search(
        study,
        Serial().open(SizedObjective()),
        trials=12,
        stopper=strategy("stoppers", name),
        sizes=SIZES,
        complete=True,
    ).run()
    assert len(trained) == len(set(trained))
    for trial in study.trials:
        assert [point.step for point in trial.curve] == list(SIZES[: len(trial.curve)])
    stopped = sum(trial.state is State.STOPPED for trial in study.trials)
    assert (stopped > 0) == (name in ("asha", "hyperband", "median", "threshold"))


def test_without_a_stopper_the_full_size_alone_is_trained() -> None:
    study = Study(SPACE, "random", seed=1)
    Search(study, Serial().open(SizedObjective()), trials=3, sizes=SIZES, complete=True).run()
    assert [[point.step for point in trial.curve] for trial in study.trials] == [[9]] * 3


def test_luck_at_a_small_size_is_never_best_but_is_known_to_the_sampler() -> None:
    lucky = Study({"x": {"float": [0, 1]}}, "random", initial=[{"x": x} for x in (0.95, 0.96, 0.97, 0.1)])
    Search(lucky, Serial().open(SizedObjective()), trials=4, stopper=Asha(), sizes=SIZES, complete=True).run()
    small = [trial for trial in lucky.trials if trial.state is State.STOPPED]
    assert small
    assert min(trial.metrics["loss"] for trial in small) < 0, "lower than that of any complete one"
    assert lucky.best is not None
    assert lucky.best.state is State.COMPLETED
    assert lucky.front == [lucky.best]
    from modelopt_cli.tuning.samplers._common.history import losses_of

    assert [losses_of(trial) for trial in small] == [(trial.metrics["loss"],) for trial in small]


def test_a_search_without_a_complete_trial_says_so() -> None:
    study = Study(SPACE, "random", seed=1)
    scheduler = strategy("schedulers", "successive_halving")
    result = Search(
        study, Serial().open(SizedObjective()), trials=1, scheduler=scheduler, sizes=SIZES, complete=True
    ).run()
    assert study.best is None
    assert result.warnings == [
        "no trial came to its end, so none is best; --resume with more tuning.trials or time continues the search"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
def test_cut_off_anywhere_no_size_is_trained_twice_and_the_end_is_the_same(name: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"trials": 3, "sizes": SIZES, "complete": True}
    whole = Study(SPACE, "random", seed=4)
    Search(whole, Serial().open(SizedObjective()), scheduler=strategy("schedulers", name), **arguments).run()
    expected = [(trial.params, [point.losses for point in trial.curve], trial.losses) for trial in whole.trials]
    path = tmp_path / "s"
    for cut in range(1, 25):
        with Study(SPACE, "random", seed=4, path=path) as study:
            trained.clear()
            before = {(trial.seed, point.step) for trial in study.trials for point in trial.curve[: trial.kept]}
            stop = asked_more_than(cut)
            Search(
                study, Serial().open(SizedObjective()), scheduler=strategy("schedulers", name), stop=stop, **arguments
            ).run()
            assert not before & set(trained), "a paused trial's sizes are not trained again, though its state is lost"
    with Study(SPACE, "random", seed=4, path=path) as study:
        result = Search(
            study, Serial().open(SizedObjective()), scheduler=strategy("schedulers", name), **arguments
        ).run()
        assert [(t.params, [p.losses for p in t.curve], t.losses) for t in study.trials] == expected
        assert result.warnings == []
    again = replayed(path, strategy("schedulers", name), sizes=SIZES)
    assert again.first is None
    assert again.asked["decisions"] > 0


def test_rungs_are_sizes_that_there_are() -> None:
    assert halving(1, 3, 9, SIZES) == halving(1, 3, 9)
    assert halving(1, 2, 9, SIZES).rungs == SIZES
    assert halving(1, 2, 9, SIZES).sizes == (4, 2, 1)
    assert halving(2, 3, 8, (1, 2, 4, 8)).rungs == (2, 8)


class Stepwise(Scheduler):
    """Goes on from other trials' weights."""

    sizes = False

    def next(self, context: Any) -> list[Any]:
        return []


class Folds(Stopper):
    sizes = False

    def decide(self, trial: Any, trials: Any) -> str | None:
        return None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing looks at that; write stopper: asha, or scheduler: bohb, or leave it out"),
        ({"workflow": "prune", "stopper": "asha"}, "trials run the workflow prune; leave it out"),
        ({"workflow": "command", "stopper": "asha"}, "trials run the workflow command; leave it out"),
        ({"stopper": "wilcoxon"}, "wilcoxon makes no sense of trials that train on growing parts"),
        ({"stopper": Folds()}, "makes no sense"),
        ({"scheduler": Stepwise(), "trials": 3}, "makes no sense"),
        ({"stopper": "asha", "fidelity": {"least": 0.5}}, "set least to at most 0.333"),
        ({"stopper": "asha", "fidelity": {"least": 1.0}}, "less than 1"),
        ({"stopper": "asha", "fidelity": {"least": 0.0}}, "greater than 0"),
        ({"stopper": "asha", "fidelity": {"factor": 1}}, "greater than or equal to 2"),
    ],
)
def test_what_has_no_sizes_is_refused_with_a_remedy(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TuningSettings.model_validate({"objective": "minimize loss", "fidelity": {}, **given})
