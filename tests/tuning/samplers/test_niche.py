"""What a search does that no longer gets better: it looks beyond the mode that it has found."""

from __future__ import annotations

import numpy as np
import pytest

from modelopt_cli.tuning.samplers._common.encoding import Encoding
from modelopt_cli.tuning.samplers._common.history import read
from modelopt_cli.tuning.samplers._gp.suggestion import Niche, outside_niche, stagnation
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Params

MIXED = {"kind": ["a", "b", "c"], "x": {"float": [0, 1]}}
NUMBERS = {"x": {"float": [0, 1]}, "y": {"float": [0, 1]}}


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([3.0, 2.0, 1.0], 0),
        ([1.0, 2.0, 3.0], 2),
        ([3.0, 1.0, 3.0, 1.0, 3.0], 3),
        ([9.0, 1.009, 3.0, 1.0, 2.0], 3),  # the median is 2, so what lies below 1.01 is as good
        ([9.0, 1.02, 3.0, 1.0, 2.0], 1),
        ([2.0, 2.0, 2.0], 2),
    ],
)
def test_stagnation_begins_with_the_first_that_is_hardly_worse_than_the_best(
    losses: list[float], expected: int
) -> None:
    assert stagnation(np.array(losses)) == expected


def test_a_niche_is_the_best_ones_categories_or_without_any_what_is_near_it() -> None:
    encoding = Encoding(Space.from_spec(MIXED))
    codes = encoding.snap(np.array([[0.1, 0.5], [0.1, 0.99], [0.5, 0.5], [0.9, 0.5]]))
    assert Niche(encoding, codes[0]).holds(codes).tolist() == [True, True, False, False]
    encoding = Encoding(Space.from_spec(NUMBERS))
    codes = np.array([[0.5, 0.5], [0.6, 0.35], [0.5, 0.75], [0.1, 0.5]])
    assert Niche(encoding, codes[0]).holds(codes).tolist() == [True, True, False, False]


def test_outside_of_the_niche_no_trial_of_it_is_known() -> None:
    study = Study(MIXED, "random", seed=3)
    for _ in range(20):
        trial = study.ask()
        study.tell(trial, {"a": 0.0, "b": 1.0, "c": 2.0}[trial.params["kind"]] + trial.params["x"])
    history = read(study.trials, np.random.default_rng(0))
    elsewhere = outside_niche(Encoding(study.space), history)
    assert elsewhere is not None
    niche, rest = elsewhere
    assert {params["kind"] for params in rest.params} == {"b", "c"}
    others = sum(params["kind"] != "a" for params in history.params)
    assert len(rest.y) == len(rest.params) == len(rest.losses) == len(rest.margins) == others < 20
    only = history.only(niche.holds(np.stack([study.space.encode(params) for params in history.params])))
    assert outside_niche(Encoding(study.space), only) is None  # nothing is left


def trapped(params: Params) -> float:
    """A broad plateau of one kind at 0.1, and a narrow valley of another down to 0."""
    if params["kind"] == "a":
        return float(0.1 + max(0.0, abs(params["x"] - 0.5) - 0.3))
    return float(min(0.8, 6.0 * abs(params["x"] - 0.77)) + (0.0 if params["kind"] == "b" else 0.5))


def lowest(patience: int | None, seed: int) -> float:
    study = Study(MIXED, {"type": "bayesian", "patience": patience}, seed=seed)
    for _ in range(36):
        trial = study.ask()
        study.tell(trial, trapped(trial.params))
    assert study.best is not None
    assert study.best.loss is not None
    return study.best.loss


@pytest.mark.slow
def test_a_plateau_does_not_hold_a_search_that_looks_elsewhere() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    with_it, without = ([lowest(patience, seed) for seed in range(2)] for patience in (6, None))
    assert np.mean(with_it) <= np.mean(without)
    assert max(with_it) < 0.1  # every one has left the plateau
