"""Importance and effects against closed forms: functions whose decomposition is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelopt_cli.tuning.analysis.effects import Branches, Effects, grid
from modelopt_cli.tuning.analysis.finished_trials import FinishedTrials
from modelopt_cli.tuning.analysis.importance import Analysis
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.trial import State, Trial

CUBE = Space.from_spec({name: {"float": [0, 1]} for name in ("a", "b", "c", "idle")})
TREE = Space.from_spec(
    {
        "x": {"float": [0, 1]},
        "kind": {
            "choice": [
                {"type": "one", "p": {"float": [0, 1]}},
                {"type": "two", "q": {"choice": [{"type": "in", "r": {"float": [0, 1]}}, {"type": "out"}]}},
                {"type": "none"},
            ]
        },
    }
)


def measured(space: Space, loss: Any, count: int = 64, seed: int = 0) -> FinishedTrials:
    from scipy.stats import qmc

    points = qmc.Sobol(space.dim, rng=np.random.default_rng(seed)).random(256)[:count]
    params = [space.decode(point) for point in points]
    return FinishedTrials(params, np.array([float(loss(each)) for each in params]))


def shares(space: Space, loss: Any, **options: Any) -> dict[str, float]:
    importances = Analysis(space, measured(space, loss, **options)).importances()
    assert all(one.share is not None and one.deviation is not None and one.deviation < 0.15 for one in importances)
    return {space.parameters[one.position].path: float(one.share or 0.0) for one in importances}


def test_a_linear_function_has_shares_by_its_squared_slopes() -> None:
    slopes = {"a": 3.0, "b": 2.0, "c": 1.0, "idle": 0.0}
    share = shares(CUBE, lambda p: sum(slope * p[name] for name, slope in slopes.items()))
    for name, slope in slopes.items():
        assert share[name] == pytest.approx(slope**2 / 14, abs=0.01)
    assert share["idle"] < 0.001


def test_the_ishigami_function() -> None:
    """Ishigami & Homma 1990: with a = 7, b = 0.1 the first-order shares are 0.3139, 0.4424 and 0."""

    def ishigami(p: dict[str, float]) -> float:
        x = {name: np.pi * (2 * value - 1) for name, value in p.items()}
        return float(np.sin(x["a"]) + 7 * np.sin(x["b"]) ** 2 + 0.1 * x["c"] ** 4 * np.sin(x["a"]))

    share = shares(CUBE, ishigami, count=200)
    assert share["a"] == pytest.approx(0.3139, abs=0.04)
    assert share["b"] == pytest.approx(0.4424, abs=0.04)
    assert share["c"] < 0.02, "it acts through its interaction with a alone"
    assert share["idle"] < 0.01


def test_an_interaction_is_in_the_pair_alone() -> None:
    analysis = Analysis(CUBE, measured(CUBE, lambda p: (p["a"] - 0.5) * (p["b"] - 0.5)))
    importances = analysis.importances()
    assert all(one.share is not None and one.share < 0.02 for one in importances)
    a, b, effect = analysis.pairs(importances)[0]
    assert (a, b) == (0, 1)
    expected = (effect.codes[0][:, None] - 0.5) * (effect.codes[1] - 0.5)
    np.testing.assert_allclose(effect.mean, expected, atol=0.02)


def test_categories_and_whole_numbers() -> None:
    space = Space.from_spec({"kind": ["u", "v", "w"], "n": {"int": [1, 4]}, "flag": [True, False]})
    worth = {"u": 0.0, "v": 3.0, "w": 0.0}
    share = shares(space, lambda p: worth[p["kind"]] + p["n"], count=24)
    whole = 2.0 + 1.25  # variances of (0, 3, 0) and of (1, 2, 3, 4)
    assert share["kind"] == pytest.approx(2.0 / whole, abs=0.05)
    assert share["n"] == pytest.approx(1.25 / whole, abs=0.05)
    assert share["flag"] < 0.01


def test_a_conditional_parameter_is_weighted_by_its_branch() -> None:
    def loss(p: dict[str, Any]) -> float:
        return float(p["x"] + {"one": 2 * p.get("kind.p", 0.0), "two": 1.0, "none": 1.0}[p["kind"]["type"]])

    share = shares(TREE, loss)
    # x: 1/12. kind: all branches have mean 1. p: slope 2 in a third of the settings.
    parts = {"x": 1 / 12, "kind": 0.0, "kind.p": 4 / 12 / 3, "kind.q": 0.0, "kind.q.r": 0.0}
    for path, part in parts.items():
        assert share[path] == pytest.approx(part / sum(parts.values()), abs=0.05), path


def test_which_parameters_count_together() -> None:
    branches = Branches(TREE)
    assert [parameter.path for parameter in TREE.parameters] == ["x", "kind", "kind.p", "kind.q", "kind.q.r"]
    assert branches.above(4) == {3: 0, 1: 1}
    assert branches.share(4) == pytest.approx(1 / 6)
    pairs = {(a, b) for a in range(5) for b in range(5) if branches.together(a, b)}
    assert pairs == {pair for a, b in ((0, 1), (0, 2), (0, 3), (0, 4)) for pair in ((a, b), (b, a))}


def trials(losses: list[Any]) -> list[Trial]:
    return [
        Trial(
            n,
            {"a": n / 100, "b": 0.5, "c": 0.5, "idle": 0.5},
            0,
            State.FAILED if loss is None else State.COMPLETED,
            losses=None if loss is None else (loss,),
        )
        for n, loss in enumerate(losses)
    ]


def test_too_few_trials_are_told_with_their_number() -> None:
    assert "11 trials ended with a value, but 12 are needed for 4 parameters" in FinishedTrials.of(
        trials([*range(11), None, None]), 0
    ).too_few(CUBE)
    assert "same value" in FinishedTrials.of(trials([1.0] * 20), 0).too_few(CUBE)
    assert FinishedTrials.of(trials([*range(12)]), 0).too_few(CUBE) == ""


def test_losses_far_off_are_cut() -> None:
    finished = FinishedTrials.of(trials([0.0, 1.0, 2.0, 1e9, None]), 0)
    assert list(finished.losses) == [0.0, 1.0, 2.0, 12.0]


def test_huge_losses_do_no_harm() -> None:
    finished = measured(CUBE, lambda p: 1e300 if p["a"] > 0.5 else p["b"])
    shares = [each.share for each in Analysis(CUBE, finished).importances()]
    assert shares[0] is not None
    assert shares[0] > 0.7
    assert np.isfinite(Effects(CUBE, finished).of(0).mean).all()


def test_a_parameter_that_counted_in_few_trials_has_no_share() -> None:
    finished = measured(TREE, lambda p: p["x"], 30)
    rare = [n for n, p in enumerate(finished.params) if p["kind"]["type"] == "one"]
    kept = [n for n in range(30) if n not in rare[3:]]
    less = FinishedTrials([finished.params[n] for n in kept], finished.losses[kept])
    by_path = {TREE.parameters[each.position].path: each for each in Analysis(TREE, less).importances()}
    assert by_path["kind.p"].share is None
    assert by_path["kind.p"].trials == 3
    assert by_path["x"].share is not None
    assert by_path["x"].share > 0.8


def test_effects_of_a_separable_function_are_its_parts() -> None:
    """f = log10(lr)² / 4 + n + worth of the kind: each effect is its part plus the mean of the others."""
    space = Space.from_spec({"lr": {"float": [1e-4, 1], "log": True}, "n": {"int": [1, 8]}, "kind": ["u", "v", "w"]})
    worth = {"u": 0.0, "v": 3.0, "w": 1.0}
    parts: dict[str, Any] = {"lr": lambda v: np.log10(v) ** 2 / 4, "n": float, "kind": worth.__getitem__}
    means = {"lr": 4 / 3, "n": 4.5, "kind": 4 / 3}
    effects = Effects(space, measured(space, lambda p: sum(part(p[name]) for name, part in parts.items()), 60))
    for position, parameter in enumerate(space.parameters):
        effect = effects.of(position)
        assert len(effect.mean) == {"lr": 25, "n": 8, "kind": 3}[parameter.path]
        rest = sum(mean for name, mean in means.items() if name != parameter.path)
        expected = [parts[parameter.path](parameter.decode(code)) + rest for code in effect.codes[0]]
        np.testing.assert_allclose(effect.mean, expected, atol=0.12)
        assert (np.abs(effect.mean - expected) < 4 * effect.deviation + 0.1).all()
    two = effects.of_two(0, 2)
    assert two.mean.shape == (12, 3)
    together = np.array(
        [[np.log10(space.parameters[0].decode(u)) ** 2 / 4 + worth[k] + 4.5 for k in worth] for u in two.codes[0]]
    )
    np.testing.assert_allclose(two.mean, together, atol=0.2)


def test_a_conditional_effect_is_that_of_its_branch() -> None:
    def loss(p: dict[str, Any]) -> float:
        return float(p["x"] + {"one": 2 * p.get("kind.p", 0.0), "two": 5.0, "none": -5.0}[p["kind"]["type"]])

    effect = Effects(TREE, measured(TREE, loss, 90)).of(2)
    np.testing.assert_allclose(effect.mean, 2 * effect.codes[0] + 0.5, atol=0.15)


def test_little_is_known_where_little_was_tried() -> None:
    space = Space.from_spec({"x": {"float": [0, 1]}})
    tried = [{"x": x} for x in np.linspace(0, 0.4, 20).tolist()]
    effect = Effects(space, FinishedTrials(tried, np.sin([20 * p["x"] for p in tried]))).of(0)
    assert effect.deviation[-1] > 5 * effect.deviation[5]


@pytest.mark.parametrize(
    ("spec", "values", "count"),
    [
        ({"float": [0, 1]}, 25, 25),
        ({"float": [0, 1], "step": 0.25}, 25, 5),
        ({"float": [0, 1], "count": 3}, 25, 25),
        ({"int": [1, 1000], "log": True}, 25, 25),
        ({"int": [1, 1000]}, 5, 5),
        (list(range(40)), 25, 40),
        ({"ordinal": ["s", "m", "l"]}, 25, 3),
    ],
)
@pytest.mark.parametrize("ends", [True, False])
def test_a_grid_covers_the_range(spec: Any, values: int, count: int, ends: bool) -> None:
    parameter = Space.from_spec({"x": spec}).parameters[0]
    codes, widths = grid(parameter, values, ends=ends)
    assert len(codes) in range(count - 5, count + 1)
    assert widths.sum() == pytest.approx(1.0)
    assert (np.diff(codes) > 0).all()
    assert (widths > 0).all()
    if ends:
        assert [parameter.decode(codes[0]), parameter.decode(codes[-1])] == [parameter.ends[0], parameter.ends[-1]]
