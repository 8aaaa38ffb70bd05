"""Points near others, and the order in which settings are suggested."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.samplers._common.neighbours import best_first, near


@given(st.integers(0, 1000))
def test_neighbours_stay_in_the_cube_and_the_order_is_by_merit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.random((3, 4))
    centres[0, 2] = np.nan
    points = near(centres, 0.1, 50, rng)
    assert points.shape == (50, 4)
    assert ((points >= 0) & (points <= 1)).all()
    merit = rng.standard_normal(50)
    first = next(iter(best_first(points, merit, centres[1:])))
    apart = np.abs(points[:, None] - centres[None, 1:]).max(2).min(1) >= 1e-3
    np.testing.assert_array_equal(first, points[apart][np.argmax(merit[apart])])


def test_what_counts_as_next_to_a_trial_is_for_the_caller_to_say() -> None:
    points, trial = np.array([[0.5001], [0.7]]), np.array([[0.5]])
    merit = np.array([2.0, 1.0])
    assert next(iter(best_first(points, merit, trial)))[0] == 0.7
    assert next(iter(best_first(points, merit, trial, apart=1e-5)))[0] == 0.5001
