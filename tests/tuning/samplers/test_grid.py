"""Every setting of a grid, in its order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from modelopt_cli.tuning.space.space import Space, SpaceError
from modelopt_cli.tuning.trials.trial import Params, State, Trial
from tests.support.sampler_histories import FINITE, build


def test_grid_is_the_spaces_grid_in_its_order() -> None:
    sampler, trials = build("grid"), list[Trial]()
    for points in itertools.batched(FINITE.grid(), 2) if hasattr(itertools, "batched") else _pairs(FINITE):
        settings = sampler.suggest(FINITE, trials, np.random.default_rng(0), 2)
        assert settings == list(points)
        trials += [Trial(len(trials) + i, params, 0, State.RUNNING) for i, params in enumerate(settings)]
    assert sampler.exact
    initial = [Trial(0, FINITE.grid_point(1), 0, State.COMPLETED, origin="initial")]
    assert sampler.suggest(FINITE, initial, np.random.default_rng(0), 2) == [FINITE.grid_point(0), FINITE.grid_point(2)]


def _pairs(space: Space) -> list[list[Params]]:
    points = list(space.grid())
    return [points[i : i + 2] for i in range(0, len(points), 2)]


def test_grid_refuses_a_continuous_float() -> None:
    with pytest.raises(SpaceError, match="give it a step or a count"):
        build("grid").suggest(Space.from_spec({"x": {"float": [0, 1]}}), [], np.random.default_rng(0), 1)
