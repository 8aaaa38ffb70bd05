"""Finite losses of diverged trials: told from bad ones by a gap, and to a search what NaN is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.tuning.analysis.finished_trials import FinishedTrials
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.divergence import diverged, diverged_rows, drawn_back

MIXED = {"x": {"float": [-5, 5]}, "k": ["a", "b", None, True], "n": {"int": [1, 100], "log": True}}


def mixed(params: dict[str, Any]) -> float:
    return float((params["x"] - 1) ** 2 + (params["k"] != "b") + abs(math.log(params["n"] / 10)))


def settings_of(
    sampler: str, bad: Callable[[dict[str, Any], int], bool], value: float, seed: int, objective: str = "minimize loss"
) -> list[dict[str, Any]]:
    """What is tried when bad trials answer `value` (or minus that, where more is better), the others what they are."""
    sign = -1.0 if objective.startswith("max") else 1.0
    study = Study(MIXED, sampler, objective, seed=seed)
    for number in range(13):
        trial = study.ask()
        study.tell(trial, sign * (value if bad(trial.params, number) else 1e-3 * mixed(trial.params)))
    return [trial.params for trial in study.trials]


BAD: dict[str, Callable[[dict[str, Any], int], bool]] = {
    "one": lambda params, number: number == 3,
    "a third": lambda params, number: number % 3 == 1,
    "a region": lambda params, number: params["x"] < -1,
}


@pytest.mark.parametrize(
    ("sampler", "objective", "bad"),
    [
        ("bayesian", "minimize loss", "a region"),
        ("bayesian", "maximize score", "one"),
        ("bayesian", "minimize loss", "a third"),
        ("tpe", "maximize score", "a region"),
        ("skopt", "minimize loss", "a region"),
    ],
)
def test_a_search_takes_a_diverged_loss_as_it_takes_nan(sampler: str, objective: str, bad: str) -> None:
    as_nan = settings_of(sampler, BAD[bad], math.nan, 1, objective)
    for value in (0.3, 1e4, 1e30):  # the others lie below 0.04
        assert settings_of(sampler, BAD[bad], value, 1, objective) == as_nan


@settings(deadline=None, max_examples=100)
@given(
    st.integers(4, 60),
    st.integers(0, 3),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
    st.sampled_from([1e8, 1e30, 1e300]),
    st.integers(0, 2**32),
)
def test_what_lies_far_out_has_diverged_whatever_the_unit(
    good: int, bad: int, offset: float, scale: float, value: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    losses = np.concatenate([offset + scale * rng.random(good) ** 2, value * (1 + rng.random(bad))])
    order = rng.permutation(len(losses))
    assert diverged(losses[order]).tolist() == [bool(index >= good) for index in order]


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (lambda rng, n: rng.standard_normal(n), 0.002),
        (lambda rng, n: rng.random(n) ** 4, 0.045),
        (lambda rng, n: np.exp(3.0 * rng.standard_normal(n)), 0.26),  # over eight decades
        (lambda rng, n: 10.0 ** rng.uniform(-6, 3, n), 0.3),
        (lambda rng, n: rng.integers(0, 4, n) / 100, 0.0),  # many ties
    ],
    ids=["normal", "a bowl", "log-normal", "nine decades", "ties"],
)
def test_bad_losses_of_one_function_are_rarely_taken_for_diverged(
    draw: Callable[[np.random.Generator, int], np.ndarray], most: float
) -> None:
    """Of 400 histories of 8 to 40 trials; few of their trials, too, where losses span many decades.

    The bounds lie two standard errors or more above the shares of other seeds, of which at most 1 in 40 would fail.
    """
    rng = np.random.default_rng(0)
    rows = [diverged(draw(rng, int(rng.integers(8, 41)))) for _ in range(400)]
    assert np.mean([beyond.any() for beyond in rows]) <= most
    assert np.mean([beyond.mean() for beyond in rows]) <= 0.13


def test_a_third_of_the_losses_or_two_is_no_divergence() -> None:
    assert not diverged(np.array([0.1, 0.2, 0.3, 1e6, 1e6, 1e6, 2e6, 1e6])).any(), "most of them end so"
    assert not diverged(np.array([0.1, 1e9])).any(), "nothing to go by"
    assert not diverged(np.zeros(8)).any()
    rates = np.array([0.025, 0.026, 0.0255, 0.9, 0.027, 0.0265, 0.028, 0.9])
    assert not diverged(rates, certain=True).any(), "an error rate of a classifier that learns nothing"
    assert diverged(1e4 * rates, certain=True).sum() == 2, "in another unit it would be"
    assert diverged(rates).sum() == 2, "a search learns as much from a failure"
    losses = np.array([0.1, 0.3, 1e6, 0.2, 0.5, 0.4])
    assert drawn_back(losses).tolist() == [0.1, 0.3, 0.5, 0.2, 0.5, 0.4]
    assert drawn_back(losses[:2]).tolist() == [0.1, 0.3]


def test_of_several_objectives_a_compromise_is_kept() -> None:
    accuracy = -np.array([0.5, 0.6, 0.7, 0.8, 0.99, 0.3])
    size = np.array([1e3, 2e3, 3e3, 4e3, 1e8, 2e8])
    beyond = diverged_rows(np.stack([accuracy, size], axis=1))
    assert beyond.tolist() == [False] * 5 + [True], "the largest model is the most accurate one, or it is nothing"


def test_importance_looks_at_the_others() -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", seed=0)
    for number in range(20):
        trial = study.ask()
        study.tell(trial, 1e30 if number % 3 == 0 else trial.params["x"])
    finished = FinishedTrials.of(study.trials, 0)
    assert finished.losses.max() <= 1.0
    assert len(finished.losses) == 20


def test_the_regret_and_repeats_are_about_the_others() -> None:
    from modelopt_cli.tuning.analysis.regret import regret_bound
    from modelopt_cli.tuning.analysis.replication import posterior

    bounds = {}
    for value in (1e6, 1e30):
        study = Study({"x": {"float": [0, 1]}}, "sobol", seed=0)
        for number in range(25):
            trial = study.ask()
            study.tell(trial, value if number in (3, 9) else (trial.params["x"] - 0.3) ** 2)
        bounds[value] = regret_bound(study.space, study.trials)
        known = posterior(study.space, study.trials)
        assert known is not None
        assert known.mean.max() < 1.0
        assert known.noise < 0.05
    assert bounds[1e6] == bounds[1e30]
    assert bounds[1e6] is not None
    assert bounds[1e6] < 0.2


def test_curves_and_margins_are_not_flattened_by_what_diverged() -> None:
    from modelopt_cli.tuning.samplers._common.encoding import Encoding
    from modelopt_cli.tuning.samplers._gp.acquisition import Feasibility
    from modelopt_cli.tuning.schedulers._curve_table import CurveTable
    from modelopt_cli.tuning.schedulers._curves import Curves, losses_at_stages
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.indexed import derived

    study = Study({"x": {"float": [0, 1]}}, "sobol", seed=0)
    for number in range(12):
        trial = study.ask()
        for step in (1, 2):
            study.report(trial, step, 1e30 if number == 5 and step == 2 else trial.params["x"] + 1 / step)
        study.pause(trial)
    table = derived(study.history, CurveTable, study.space, (1, 2))
    curves = Curves(table, "loss", losses_at_stages(table.arrays.losses[:, 0]))
    codes = np.array([[0.05], [0.5], [0.95]])
    means = curves.means(curves.at_end(codes))
    assert np.diff(means).min() > 0.3, "the others' losses rise with x"

    space = Space.from_spec({"x": {"float": [0, 1]}})
    points = np.linspace(0, 1, 12)[:, None]
    margins = np.stack([0.5 - points[:, 0], np.ones(12)], axis=1)
    margins[-1, 0] = -1e30
    merit = Feasibility(Encoding(space), points, margins, np.random.default_rng(0)).log_merit(codes)
    assert merit[0] > -0.5
    assert merit[2] < -5
