"""Priors: how they are written, what density they are, and that they help when right and are forgotten."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from modelopt_cli.tuning.samplers._common.priors import Priors
from modelopt_cli.tuning.space.parameters import Prior
from modelopt_cli.tuning.space.space import Space, SpaceError
from tests.support.sampler_histories import best, build, search

PRIOR: dict[str, Any] = {
    "lr": {"float": [1e-4, 1.0], "log": True, "prior": 0.01},
    "k": {"int": [1, 9], "prior": 3, "confidence": 0.5},
    "act": {"choice": ["a", "b", "c"], "prior": "b"},
    "opt": {
        "choice": [{"type": "sgd", "m": {"float": [0, 1], "prior": 0.9, "confidence": 0.9}}, {"type": "adam"}],
        "prior": "sgd",
    },
    "size": {"ordinal": ["s", "m", "l"], "prior": "l"},
    "free": {"float": [0, 1]},
}
SPACE = Space.from_spec(PRIOR)


def test_a_prior_stands_beside_any_kind() -> None:
    stated = {parameter.path: parameter.prior for parameter in SPACE.parameters}
    assert stated == {
        "lr": Prior(0.01, 0.8),
        "k": Prior(3, 0.5),
        "act": Prior("b", 0.8),
        "opt": Prior({"type": "sgd"}, 0.8),
        "opt.m": Prior(0.9, 0.9),
        "size": Prior("l", 0.8),
        "free": None,
    }
    assert Space.from_spec(SPACE.to_spec()) == SPACE


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"float": [0, 1], "prior": 2}, r"x: prior: 2 is no number in \[0.0, 1.0\]; name a value of the space"),
        ({"int": [0, 5], "prior": 1.5}, "1.5 is no whole number"),
        ({"choice": ["a", "b"], "prior": "c"}, "'c' is none of: a | b"),
        ({"float": [0, 1], "prior": 0.5, "confidence": 1}, "confidence is 1, but must lie between 0 and 1"),
        ({"float": [0, 1], "prior": 0.5, "confidence": True}, "confidence is True"),
        ({"float": [0, 1], "confidence": 0.5}, "confidence stands without a prior"),
        ({"float": [0, 1], "pror": 0.5}, "unknown key 'pror'.*'prior'"),
        ({"choice": [{"type": "a", "n": 1}, {"type": "a", "n": 2}], "prior": "a"}, "the type of 2 sections"),
    ],
)
def test_a_prior_that_makes_no_sense_is_told(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Space.from_spec({"x": spec})


def codes(**changed: np.ndarray) -> np.ndarray:
    """Rows of codes, all at the first value of each parameter but for those given."""
    rows = len(next(iter(changed.values())))
    table = np.full((rows, SPACE.dim), np.nan)
    for path, column in changed.items():
        table[:, [parameter.path for parameter in SPACE.parameters].index(path)] = column
    return table


def test_each_density_integrates_to_one_and_a_numbers_is_a_truncated_normal() -> None:
    priors, line = Priors(SPACE), (np.arange(3000) + 0.5) / 3000
    for path in ("lr", "k", "act", "opt", "opt.m", "size"):
        assert np.exp(priors.log_density(codes(**{path: line}))).mean() == pytest.approx(1.0, abs=1e-3), path
    normal = truncnorm(-0.5 / 0.2, 0.5 / 0.2, loc=0.5, scale=0.2)
    np.testing.assert_allclose(np.exp(priors.log_density(codes(lr=line))), 0.8 * normal.pdf(line) + 0.2, atol=1e-9)
    shares = np.exp(priors.log_density(codes(act=np.array([1, 3, 5]) / 6))) / 3
    np.testing.assert_allclose(shares, [0.2 / 3, 0.8 + 0.2 / 3, 0.2 / 3])
    np.testing.assert_array_equal(priors.log_density(codes(free=line)), 0.0)
    both = priors.log_density(codes(lr=line, act=line))
    np.testing.assert_allclose(both, priors.log_density(codes(lr=line)) + priors.log_density(codes(act=line)))


def test_shaped_points_follow_the_density() -> None:
    priors, rng = Priors(SPACE), np.random.default_rng(0)
    points = rng.random((20_000, SPACE.dim))
    shaped = priors.shaped(points)
    np.testing.assert_array_equal(shaped[:, -1], points[:, -1])
    line = (np.arange(1000) + 0.5) / 1000
    for path in ("lr", "act", "opt.m"):
        position = [parameter.path for parameter in SPACE.parameters].index(path)
        counts = np.histogram(shaped[:, position], bins=3, range=(0, 1))[0] / 20_000
        density = np.exp(priors.log_density(codes(**{path: line})))
        expected = [part.mean() / 3 for part in np.array_split(density, 3)]
        np.testing.assert_allclose(counts, expected, atol=0.012, err_msg=path)
    design = priors.design(points[:4], 1)
    np.testing.assert_array_equal(design[1::2], points[1:4:2])
    np.testing.assert_array_equal(design[::2], shaped[:4:2])


@given(st.integers(1, 10**6))
def test_a_prior_fades_with_the_trials(trials: int) -> None:
    priors, row = Priors(SPACE), codes(lr=np.array([0.1, 0.5]))
    merit = np.array([1.0, 0.0])
    weighted = priors.weighted(merit, row, trials)
    np.testing.assert_allclose(weighted - merit, 10.0 / trials * priors.log_density(row))


def plain(spec: dict[str, Any]) -> dict[str, Any]:
    spec = copy.deepcopy(spec)
    for one in spec.values():
        one.pop("prior", None)
        one.pop("confidence", None)
    return spec


FAR = {f"x{i}": {"float": [0, 1], "prior": 0.85, "confidence": 0.9} for i in range(4)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bayesian", "tpe"])
def test_a_right_prior_helps_and_a_wrong_one_is_overcome(name: str) -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""

    def loss(params: dict[str, Any]) -> float:
        return float(sum((value - 0.85) ** 2 for value in params.values()))

    wrong = {path: {**spec, "prior": 0.15} for path, spec in FAR.items()}
    early = {
        kind: np.median([best(search(build(name), Space.from_spec(spec), loss, 12, seed)) for seed in range(3)])
        for kind, spec in (("right", FAR), ("none", plain(FAR)))
    }
    assert early["right"] < 0.5 * early["none"]
    assert best(search(build(name), Space.from_spec(wrong), loss, 60, 0)) < 0.1 * early["none"]


@pytest.mark.parametrize("name", ["random", "sobol", "evolution", "skopt"])
def test_other_samplers_heed_no_prior(name: str) -> None:
    def loss(params: dict[str, Any]) -> float:
        return float(sum(params.values()))

    settings = [[t.params for t in search(build(name), Space.from_spec(s), loss, 12, 0)] for s in (FAR, plain(FAR))]
    assert settings[0] == settings[1]
