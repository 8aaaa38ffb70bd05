"""What freeze_thaw gives to several workers that are free at once; several objectives, and constraints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli.tuning.analysis.hypervolume import hypervolume
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.objective import Run, StepReport
from modelopt_cli.tuning.schedulers import Resume, SchedulerContext, Start
from modelopt_cli.tuning.schedulers.freeze_thaw import FreezeThaw
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.search.simulator import Curve, Simulated, simulate
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State
from tests.support.search_objectives import Curve as CurveRun
from tests.support.search_objectives import CurveObjective, asked_more_than
from tests.support.study_logs import replayed

TOTAL, PLANNED = 9, 12


def test_the_steps_that_are_left_are_given_out_once() -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", seed=0)
    scheduler = FreezeThaw()
    simulate(
        study,
        lambda params: [(1.0, {"loss": params["x"] + 1 / step}) for step in range(1, TOTAL + 1)],
        trials=PLANNED,
        workers=1,
        scheduler=scheduler,
        steps=40,
    )
    paused = [trial for trial in study.trials if trial.state is State.PAUSED]
    assert len(paused) >= 4
    context = SchedulerContext(
        space=study.space,
        trials=study.trials,
        waiting=(),
        slots=4,
        left=PLANNED,
        planned=PLANNED,
        ending=False,
        seed=study.seed,
        open_ended=True,
    )
    left = 2
    context = dataclasses.replace(context, committed=int(context.steps_left) - left)
    assert context.steps_left == left
    decisions = scheduler.next(context)
    ends = [
        (decision.until or TOTAL) - (study.trials[decision.number].step if isinstance(decision, Resume) else 0)
        for decision in decisions
        if isinstance(decision, Resume | Start)
    ]
    assert ends
    assert sum(ends[:-1]) < left, "the last one may go beyond, and no other"


SPACE: dict[str, Any] = {
    "width": {"int": [4, 512], "log": True},
    "lr": {"float": [1e-4, 1], "log": True},
    "act": ["a", "b", "c"],
}
GOALS = ["minimize error", "minimize size"]
STEPS, WHOLE = 27, 12


def network(params: Any) -> Curve:
    """Wide ones end better and cost more; high rates learn faster, and end worse."""
    width, rate = np.log(params["width"] / 4) / np.log(128), (np.log10(params["lr"]) + 4) / 4
    end = 0.05 + 0.35 * (1 - width) ** 2 + 0.8 * (rate - 0.6 + 0.2 * width) ** 2 + 0.05 * "abc".index(params["act"])
    errors = [end + (0.9 - end) * float(np.exp(-(0.3 + 1.5 * rate) * step**0.6)) for step in range(1, STEPS + 1)]
    return [(1.0, {"error": error, "size": float(params["width"])}) for error in errors]


def volume(simulated: Simulated, wholes: int, most: float = 512.0) -> float:
    """Of what the trials had come to after so many whole trainings' steps."""
    last = {number: metrics for _, number, _, metrics in simulated.history[: wholes * STEPS]}
    points = [(metrics["error"], metrics["size"] / 512) for metrics in last.values() if metrics["size"] <= most]
    return hypervolume(points, (1.0, 1.0)) if points else 0.0


@pytest.mark.slow
def test_of_two_objectives_the_hypervolume_grows_faster_than_by_random_search_and_asha() -> None:
    """At each of three budgets, on average; all is seeded."""
    volumes: dict[str, list[list[float]]] = {"freeze_thaw": [], "asha": [], "random": []}
    for seed in range(3):
        for name, own in volumes.items():
            study = Study(SPACE, "random", GOALS, seed=seed)
            trials = WHOLE if name == "freeze_thaw" else 1000
            simulated = simulate(
                study,
                network,
                trials=trials,
                steps=WHOLE * STEPS,
                scheduler=FreezeThaw() if name == "freeze_thaw" else None,
                stopper=Asha() if name == "asha" else None,
            )
            own.append([volume(simulated, wholes) for wholes in (3, 6, WHOLE)])
    means = {name: np.mean(own, axis=0) for name, own in volumes.items()}
    assert (means["freeze_thaw"] > means["asha"]).all(), means
    assert (means["freeze_thaw"] > means["random"]).all(), means


@pytest.mark.slow
def test_constraints_are_learnt_and_kept() -> None:
    """The best error that is allowed; most steps go to trials that keep the constraint."""
    errors: dict[str, list[float]] = {"freeze_thaw": [], "random": []}
    allowed_steps = []
    for seed in range(3):
        for name, own in errors.items():
            study = Study(SPACE, "random", "minimize error", seed=seed, constraints=["size <= 40"])
            scheduler = FreezeThaw() if name == "freeze_thaw" else None
            simulated = simulate(study, network, trials=8, scheduler=scheduler)
            own.append(min(metrics["error"] for *_, metrics in simulated.history if metrics["size"] <= 40))
            if name == "freeze_thaw":
                late = simulated.history[4 * STEPS :]
                allowed_steps.append(np.mean([metrics["size"] <= 40 for *_, metrics in late]))
                assert study.best is not None
                assert study.best.violation == 0
    assert np.mean(errors["freeze_thaw"]) < np.mean(errors["random"])
    assert np.mean(allowed_steps) > 0.8, "half of the space is allowed"


@pytest.mark.parametrize(
    ("goals", "constraints"),
    [
        ("minimize error", ["size >= 1000"]),
        (GOALS, ["size >= 1000"]),
        ([*GOALS, "minimize third"], ["size <= 100"]),
        ([*GOALS, "minimize third", "minimize fourth"], []),
        (GOALS, ["never.told <= 1"]),
    ],
    ids=["never kept", "two, never kept", "three", "four", "never told"],
)
@pytest.mark.slow
def test_whatever_is_asked_for_the_steps_are_spent(goals: Any, constraints: list[str]) -> None:
    def more(params: Any) -> Curve:
        return [(took, {**m, "third": m["error"] * params["lr"], "fourth": 1.0}) for took, m in network(params)]

    study = Study(SPACE, "random", goals, seed=1, constraints=constraints)
    simulated = simulate(study, more, trials=5, scheduler=FreezeThaw())
    assert simulated.result.reason == "completed"
    assert 5 * STEPS <= len(simulated.history) < 6 * STEPS
    assert max(trial.step for trial in study.trials) == STEPS


class _Priced(CurveRun):
    def advance(self, until: int) -> list[StepReport]:
        return [(step, {**metrics, "price": 1 - self.params["x"] ** 2}) for step, metrics in super().advance(until)]

    def metrics(self) -> dict[str, float]:
        return {**super().metrics(), "price": 1 - self.params["x"] ** 2}


class _PricedObjective(CurveObjective):
    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return _Priced(params, seed, self.total, state or 0)


@pytest.mark.slow
def test_several_objectives_cut_off_anywhere_go_on_to_the_same_end(tmp_path: Path) -> None:
    space = {"x": {"float": [0, 1], "prior": 0.5}, "y": {"choice": ["a", "b"]}}
    goals, constraints = ["minimize loss", "minimize price"], ["price <= 0.9"]

    def search(study: Study, **options: Any) -> None:
        Search(study, Serial().open(_PricedObjective(TOTAL)), trials=4, scheduler=FreezeThaw(), **options).run()

    def outcome(study: Study) -> list[Any]:
        return [(trial.params, [point.losses for point in trial.curve], trial.losses) for trial in study.trials]

    whole = Study(space, "random", goals, seed=4, constraints=constraints)
    search(whole)
    path = tmp_path / "s"
    for cut in range(1, 50, 3):
        with Study(space, "random", goals, seed=4, constraints=constraints, path=path) as study:
            search(study, stop=asked_more_than(cut))
    with Study(space, "random", goals, seed=4, constraints=constraints, path=path) as study:
        search(study)
        assert outcome(study) == outcome(whole)
    again = replayed(path, FreezeThaw())
    assert again.first is None
    assert again.asked["decisions"] > 10
