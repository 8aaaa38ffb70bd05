"""The history of a search as targets for a model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from modelopt_cli.tuning.samplers._common.history import read, winsorized
from modelopt_cli.tuning.trials.trial import State, Trial


def test_targets_are_winsorized_and_penalised_and_failures_come_last() -> None:
    losses = np.array([0.0, 1.0, 2.0, 3.0, 100.0])
    assert winsorized(losses, losses).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0 + np.log1p(96 / 2)]
    assert winsorized(losses + 7.0, losses[:1]).tolist() == (losses + 7.0).tolist(), "nothing to go by"
    equal = np.array([1.0, 1.0, 5.0])
    assert winsorized(equal, equal).tolist() == [1.0, 1.0, 5.0]
    ended: list[tuple[float, float]] = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (-9.0, 1.0), (-8.0, 3.0)]
    trials = [
        Trial(i, {}, 0, State.COMPLETED, losses=(loss,), violation=violation)
        for i, (loss, violation) in enumerate(ended)
    ]
    trials += [Trial(5, {}, 0, State.FAILED), Trial(6, {}, 0, State.RUNNING)]
    history = read(trials, np.random.default_rng(0))
    np.testing.assert_allclose(9 * history.y, [0.0, 1.0, 2.0, 2.5, 3.0, 3.0])
    assert len(history.pending) == 1


def test_margins_and_failures_as_numbers() -> None:
    ended: list[tuple[State, tuple[float | None, ...], float]] = [
        (State.COMPLETED, (1.0, 2.0), 0.0),
        (State.COMPLETED, (-1.0, 2.0), 1.0),
        (State.COMPLETED, (1.0, None), math.inf),
        (State.FAILED, (), 0.0),
    ]
    trials = [
        Trial(i, {"x": 0.1, "y": 0.2}, 0, state, losses=None if state is State.FAILED else (float(i),),
              violation=violation, margins=margins)
        for i, (state, margins, violation) in enumerate(ended)
    ]  # fmt: skip
    history = read(trials, np.random.default_rng(0))
    nan = math.nan
    # of two constraints, of computing a loss, of walls: the unmeasured violation counts as one
    expected = [[1, 2, 1, 1], [-1, 2, 1, 1], [1, nan, 1, -1], [nan, nan, -1, 1]]
    np.testing.assert_array_equal(history.margins, expected)
    walled = [*trials[:3], replace(trials[3], failure="memory")]
    expected = [[1, 2, 1], [-1, 2, 1], [1, nan, -1], [nan, nan, -1]]
    np.testing.assert_array_equal(read(walled, np.random.default_rng(0)).margins, expected)
    assert history.feasible.tolist() == [True, False, False, False]
    assert np.isnan(history.modelled[:, 0]).tolist() == [False, False, False, True]
