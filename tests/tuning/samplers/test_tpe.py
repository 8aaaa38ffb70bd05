"""The Parzen estimators of `tpe`, and that it loads no Gaussian process."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.samplers._common.encoding import Points
from modelopt_cli.tuning.samplers._tpe import Parzen, ranked
from modelopt_cli.tuning.trials.ranking import fronts

LOSS = st.one_of(st.integers(0, 4).map(float), st.floats(0, 4))

LOADED = """
import sys
from modelopt_cli import Study

study = Study({"x": {"float": [0.0, 1.0]}, "kind": ["a", "b"]}, {"type": SAMPLER, "initial_points": 2})
for _ in range(8):
    trial = study.ask()
    study.tell(trial, trial.params["x"])
print(*(name for name in sys.modules if name.startswith("modelopt_cli.tuning.samplers._")))
"""


def machinery(sampler: str) -> set[str]:
    """What a search by this sampler loads of samplers/, beside what samplers share."""
    printed = subprocess.run(
        [sys.executable, "-c", LOADED.replace("SAMPLER", repr(sampler))], capture_output=True, text=True, check=True
    ).stdout
    own = {name.removeprefix("modelopt_cli.tuning.samplers.") for name in printed.split()}
    return {name for name in own if not name.startswith("_common")}


@pytest.mark.slow
def test_it_loads_no_gaussian_process() -> None:
    assert machinery("tpe") == {"_tpe"}


@pytest.mark.slow
def test_bayesian_is_a_process_and_the_estimators_of_tpe() -> None:
    process = {"_gp", "_gp.process", "_gp.acquisition", "_gp.classifier", "_gp.fantasies", "_gp.suggestion"}
    assert machinery("bayesian") == {"_tpe", *process}


def parzen(points: list[float], codes: list[int]) -> Parzen:
    own = Points(np.array(points)[:, None], np.array(codes, dtype=np.int64)[:, None])
    return Parzen(own, np.isnan(own.numbers), np.array([3]))


def test_a_parzen_density_integrates_to_one() -> None:
    estimator = parzen([0.02, 0.5, 0.97], [0, 2, 2])
    line = (np.arange(4000) + 0.5) / 4000
    total = 0.0
    for code in range(3):
        grid = Points(line[:, None], np.full((4000, 1), code))
        total += np.exp(estimator.log_density(grid, np.zeros((4000, 1), dtype=bool))).mean()
    assert total == pytest.approx(1.0, abs=1e-4)


def test_parzen_draws_follow_their_density() -> None:
    estimator = parzen([0.1, 0.15, 0.8], [0, 0, 1])
    drawn = estimator.sample(np.random.default_rng(0), 40_000)
    for code in range(3):
        mine = drawn.numbers[drawn.categories[:, 0] == code, 0]
        counts = np.histogram(mine, bins=10, range=(0, 1))[0] / 40_000
        line = (np.arange(1000) + 0.5) / 1000
        grid = Points(line[:, None], np.full((1000, 1), code))
        density = np.exp(estimator.log_density(grid, np.zeros((1000, 1), dtype=bool)))
        np.testing.assert_allclose(counts, density.reshape(10, 100).mean(1) / 10, atol=0.01)


def test_a_parameter_that_does_not_count_says_nothing() -> None:
    own = Points(np.array([[0.2], [0.5]]), np.array([[0], [-1]]))
    estimator = Parzen(own, np.array([[False], [True]]), np.array([2]))
    asked = Points(np.array([[0.2], [0.9]]), np.array([[-1], [-1]]))
    both = estimator.log_density(asked, np.array([[True], [True]]))
    np.testing.assert_allclose(both, 0.0, atol=1e-12)


@given(st.lists(st.tuples(LOSS, LOSS), min_size=1, max_size=12))
def test_ranks_follow_the_fronts(points: list[tuple[float, float]]) -> None:
    ranks = ranked(np.array(points))
    assert sorted(ranks) == list(range(len(points)))
    at = 0
    for front in fronts(points):
        assert sorted(ranks[front]) == list(range(at, at + len(front)))
        at += len(front)
    assert not math.isnan(ranks.sum())
