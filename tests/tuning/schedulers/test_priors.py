"""Schedulers that choose settings heed priors: a right one helps, a wrong one is overcome, none changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.samplers._common.priors import Priors
from modelopt_cli.tuning.schedulers import Scheduler
from modelopt_cli.tuning.search.simulator import Curve, simulate
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study

TOTAL = 9
FAR: dict[str, Any] = {f"x{i}": {"float": [0, 1], "prior": 0.85, "confidence": 0.9} for i in range(4)}
NAMES = ["bohb", "freeze_thaw"]


def build(name: str) -> Scheduler:
    scheduler = FAMILIES["schedulers"].get(name)()
    assert isinstance(scheduler, Scheduler)
    return scheduler


def curve(params: Any) -> Curve:
    far = sum((value - 0.85) ** 2 for value in params.values())
    return [(1.0, {"loss": far + 1 / step}) for step in range(1, TOTAL + 1)]


def plain(spec: dict[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(spec)
    for one in spec.values():
        one.pop("prior", None)
        one.pop("confidence", None)
    return spec


def searched(name: str, space: dict[str, Any], trials: int, seed: int) -> Study:
    study = Study(space, "random", seed=seed)
    simulate(study, curve, trials=trials, scheduler=build(name))
    return study


def best(study: Study) -> float:
    assert study.best is not None
    assert study.best.loss is not None
    return study.best.loss - 1 / TOTAL


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_right_prior_helps_and_a_wrong_one_is_overcome(name: str) -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    wrong = {path: {**spec, "prior": 0.15} for path, spec in FAR.items()}
    early = {
        kind: float(np.median([best(searched(name, spec, 4, seed)) for seed in range(5)]))
        for kind, spec in (("right", FAR), ("none", plain(FAR)))
    }
    assert early["right"] < 0.5 * early["none"]
    assert best(searched(name, wrong, 30, 0)) < 0.2 * early["none"]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_trials_lie_near_the_prior(name: str) -> None:
    """One in two of the first ten or so, of a sampler that heeds none."""
    near = []
    for seed in range(6):
        study = searched(name, FAR, 2, seed)
        first = [list(trial.params.values()) for trial in study.trials[:8]]
        near += [np.abs(np.array(values) - 0.85).max() < 0.3 for values in first]
    assert 0.3 < np.mean(near) < 0.85


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_the_user_gives_come_first(name: str) -> None:
    study = Study(FAR, "random", initial=[dict.fromkeys(FAR, 0.25), dict.fromkeys(FAR, 0.5)])
    simulate(study, curve, trials=2, scheduler=build(name))
    assert [trial.params["x0"] for trial in study.trials[:2]] == [0.25, 0.5]


def test_draws_for_a_start_get_rarer_and_need_no_chance_without_a_prior() -> None:
    stated, none = Priors(Space.from_spec(FAR)), Priors(Space.from_spec(plain(FAR)))
    rng = np.random.default_rng(0)
    shares = [np.mean([stated.first(trials, rng) is not None for _ in range(2000)]) for trials in (0, 10, 40, 400)]
    np.testing.assert_allclose(shares, [0.5, 0.5, 0.125, 0.0125], atol=0.03)
    before = rng.bit_generator.state
    assert none.first(0, rng) is None
    assert rng.bit_generator.state == before
