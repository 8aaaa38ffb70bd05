"""One scrambled Sobol sequence a search."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import Trial
from tests.support.sampler_histories import build


def test_sobol_is_one_sequence_of_scipys() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}, "y": {"float": [-1, 1]}})
    trials: list[Trial] = []
    for number in range(16):
        params = build("sobol", seed=4).suggest(space, trials, np.random.default_rng(number), 1)[0]
        trials.append(Trial(number, params, number))
    points = np.stack([space.encode(trial.params) for trial in trials])
    expected = qmc.Sobol(2, scramble=True, rng=np.random.default_rng(4)).random(16)
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-15)


def test_sobol_differs_between_searches_and_not_within_one() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}})

    def point(trial_seed: int, ask_seed: int) -> float:
        trials = [Trial(0, {"x": 0.123}, trial_seed, origin="file")]
        return float(build("sobol").suggest(space, trials, np.random.default_rng(ask_seed), 1)[0]["x"])

    assert point(1, 1) == point(1, 2)
    assert point(1, 1) != point(2, 1)
