"""The bound on what a search may still gain, against the truth and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.tuning.analysis.regret import beta, regret_bound
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Params, State, Trial

LINE = Space.from_spec({"x": {"float": [0, 1]}})
BOWL = Space.from_spec({"a": {"float": [0, 1]}, "b": {"float": [1e-3, 1], "log": True}})


def bowl(params: Params) -> float:
    """Least 0 at (0.3, 0.1)."""
    return float((params["a"] - 0.3) ** 2 + (np.log10(params["b"]) + 1) ** 2 / 9)


def searched(count: int, seed: int) -> list[Trial]:
    """Trials of the bowl, by the default sampler."""
    study = Study(BOWL, seed=seed)
    for _ in range(count):
        trial = study.ask()
        study.tell(trial, bowl(trial.params))
    return list(study.trials)


def alike(losses: list[float | None]) -> list[Trial]:
    """Trials of one setting with these losses; None: failed."""
    return [
        Trial(
            number,
            {"x": 0.0},
            0,
            State.FAILED if loss is None else State.COMPLETED,
            losses=None if loss is None else (loss,),
        )
        for number, loss in enumerate(losses)
    ]


@pytest.mark.slow
def test_the_bound_holds_shrinks_and_has_the_losses_unit() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    bounds = []
    for seed in range(3):
        trials = searched(40, seed)
        for count in (20, 40):
            bound = regret_bound(BOWL, trials[:count])
            assert bound is not None
            assert bound >= min(trial.losses[0] for trial in trials[:count]), "above the true regret"  # type: ignore[index]
            bounds.append(bound)
    assert max(bounds) < 0.01, "of losses up to 0.9"
    assert sum(bounds[1::2]) < sum(bounds[::2])
    turned = [Trial(t.number, t.params, t.seed, t.state, losses=(1e3 * t.losses[0] - 7,)) for t in trials]  # type: ignore[index]
    assert regret_bound(BOWL, turned) == pytest.approx(1e3 * bounds[-1], rel=1e-3)
    assert regret_bound(BOWL, trials) == bounds[-1], "nothing in it is random"


def test_a_space_hardly_looked_at_leaves_much_to_gain() -> None:
    rng = np.random.default_rng(0)
    space = Space.from_spec({f"x{i}": {"float": [0, 1]} for i in range(6)})
    trials = [
        Trial(n, space.sample(rng), 0, State.COMPLETED, losses=(float(rng.standard_normal()),)) for n in range(60)
    ]
    assert regret_bound(space, trials[:59]) is None, "too few for six parameters"
    bound = regret_bound(space, trials)
    assert bound is not None
    assert bound > 1.0, "noise of deviation 1"


def test_when_there_is_no_bound() -> None:
    assert regret_bound(LINE, alike([1.0] * 19)) is None, "too few"
    assert regret_bound(LINE, alike([1.0] * 25)) is None, "all alike"
    assert regret_bound(LINE, alike([None] * 25)) is None
    assert beta(2, 30) == pytest.approx(2 * np.log(2 * 900 * np.pi**2 / 0.6) / 5)


def test_failures_and_what_breaks_constraints_count_as_the_worst() -> None:
    trials = searched(30, 0)
    spoilt = [
        Trial(t.number, t.params, t.seed, State.FAILED)
        if t.number % 5 == 4
        else Trial(t.number, t.params, t.seed, t.state, losses=(-9.0,), violation=1.0)
        if t.number % 5 == 3
        else t
        for t in trials
    ]
    bound = regret_bound(BOWL, spoilt)
    assert bound is not None
    assert 0 < bound < 3, "what breaks a constraint is no better loss to come"
