"""Constraints and failures: what is known of them, what is made of it, and that searches waste less."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from modelopt_cli import Study
from modelopt_cli.core.errors import TrialError
from modelopt_cli.tuning.samplers._common.encoding import Encoding
from modelopt_cli.tuning.samplers._common.history import read
from modelopt_cli.tuning.samplers._gp.acquisition import (
    CAUTION,
    AcquisitionContext,
    Feasibility,
    log_expected_improvement,
)
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import State, Trial

SQUARE = {"x": {"float": [0.0, 1.0]}, "y": {"float": [0.0, 1.0]}}
ENCODING = Encoding(Space.from_spec(SQUARE))
CONSTRAINTS = ["cost <= 2", "speed > 1"]


def test_a_trial_keeps_how_far_each_constraint_is_from_its_bound(tmp_path: Path) -> None:
    with Study(SQUARE, "random", constraints=CONSTRAINTS, path=tmp_path / "s") as study:
        study.tell(study.ask(), {"loss": 1.0, "cost": 5.0, "speed": 4.0})
        study.tell(study.ask(), {"loss": 1.0, "cost": 0.5})
        study.tell(study.ask(), TrialError("crash", "gone"))
        before = study.trials
    assert [trial.margins for trial in before] == [(-3.0, 3.0), (1.5, None), ()]
    assert [trial.violation for trial in before] == [3.0, math.inf, 0.0]
    with Study.open(tmp_path / "s") as again:
        assert again.trials == before


def test_a_study_of_an_older_version_has_no_margins(tmp_path: Path) -> None:
    with Study(SQUARE, "random", constraints=CONSTRAINTS, path=tmp_path / "s") as study:
        study.tell(study.ask(), {"loss": 1.0, "cost": 5.0, "speed": 4.0})
    with sqlite3.connect(tmp_path / "s") as database:
        ((sequence, text),) = database.execute("SELECT sequence, payload FROM events WHERE kind = 'told'").fetchall()
        payload = json.loads(text)
        del payload["margins"]
        database.execute("UPDATE events SET payload = ? WHERE sequence = ?", (json.dumps(payload), sequence))
    database.close()
    trials, _ = Study.read(tmp_path / "s")
    assert [(trial.margins, trial.violation) for trial in trials] == [((), 3.0)]
    assert read(trials, np.random.default_rng(0)).margins.tolist() == [[-1.0]], "so it counts as failed"


def test_probability_is_that_of_a_positive_margin() -> None:
    rng = np.random.default_rng(0)
    codes = rng.random((40, 2))
    margins = np.stack([codes[:, 0] - 0.4, 1.0 + codes[:, 1], np.ones(40)], axis=1)  # the others never go wrong
    feasible = Feasibility(ENCODING, codes, margins, rng)
    fresh = rng.random((300, 2))
    probability = np.exp(feasible.log_merit(fresh) / CAUTION)
    clear = np.abs(fresh[:, 0] - 0.4) > 0.05
    assert (probability[clear & (fresh[:, 0] > 0.4)] > 0.9).all()
    assert (probability[clear & (fresh[:, 0] < 0.4)] < 0.1).all()
    [(process, bound, labels)] = feasible.models
    assert not labels
    assert feasible.failing is None
    mean, deviation = process.predict(ENCODING.points(fresh[:5]))
    np.testing.assert_allclose(probability[:5], norm.sf(bound, mean, deviation), rtol=1e-9, atol=1e-300)


def test_what_may_well_fail_comes_last() -> None:
    codes = np.random.default_rng(0).random((40, 2))
    labels = np.where(codes[:, 0] > 0.5, 1.0, -1.0)
    good, bad = Feasibility(ENCODING, codes, labels[:, None], np.random.default_rng(0)).log_merit(
        np.array([[0.9, 0.5], [0.1, 0.5]])
    )
    assert good > -0.5
    assert bad < -1000, "no lack of improvement elsewhere makes up for it"


def test_what_never_went_wrong_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    codes = rng.random((10, 2))
    assert not Feasibility(ENCODING, codes, np.ones((10, 3)), rng).log_merit(codes).any()


def trials_of(violated: bool) -> list[Trial]:
    """Loss x on the square; x below 0.5 violates, if `violated` everything does."""
    rng = np.random.default_rng(0)
    trials = []
    for i, (x, y) in enumerate(rng.random((25, 2)).tolist()):
        margin = x - (1.5 if violated else 0.5)
        params = {"x": x, "y": y}
        trials.append(Trial(i, params, i, State.COMPLETED, losses=(x,), violation=max(-margin, 0.0), margins=(margin,)))
    return trials


def test_merit_is_expected_improvement_on_the_best_feasible_times_feasibility() -> None:
    rng = np.random.default_rng(1)
    context = AcquisitionContext(ENCODING, read(trials_of(violated=False), rng), [], rng)
    codes = rng.random((50, 2))
    mean, deviation = context.predict(codes)
    feasible = context.known[context.known[:, 0] >= 0.5]
    best = context.predict(feasible)[0].min()
    expected = log_expected_improvement(mean[:, 0], deviation[:, 0], best) + context.feasibility.log_merit(codes)
    np.testing.assert_allclose(context.merit(codes), expected)


def test_while_nothing_is_feasible_it_looks_for_what_may_be() -> None:
    rng = np.random.default_rng(1)
    context = AcquisitionContext(ENCODING, read(trials_of(violated=True), rng), [], rng)
    left, right = context.merit(np.array([[0.1, 0.5], [0.95, 0.5]]))
    assert right > left, "nearer to the bound, though the loss is worse"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["bayesian", "tpe"])
def test_a_search_keeps_out_of_a_region_that_fails(sampler: str) -> None:
    study = Study(SQUARE, sampler, seed=1)
    for _ in range(40):
        trial = study.ask()
        x, y = trial.params["x"], trial.params["y"]
        fails = x < 0.5  # half of the square; the loss falls towards it until 0.7
        study.tell(trial, TrialError("nan", "diverged") if fails else (x - 0.7) ** 2 + (y - 0.3) ** 2)
    late = [trial.state is State.FAILED for trial in study.trials[15:]]
    assert sum(late) <= 4
    assert study.best is not None
    assert study.best.loss is not None
    assert study.best.loss < 0.01


@pytest.mark.slow
def test_a_search_finds_the_best_on_the_bound() -> None:
    study = Study(SQUARE, "bayesian", seed=1, constraints=["sum >= 0.8"])
    for _ in range(30):
        trial = study.ask()
        x, y = trial.params["x"], trial.params["y"]
        study.tell(trial, {"loss": x**2 + y**2, "sum": x + y})  # the least is 0.32, at (0.4, 0.4)
    assert study.best is not None
    assert study.best.violation == 0
    assert study.best.loss == pytest.approx(0.32, abs=0.01)
