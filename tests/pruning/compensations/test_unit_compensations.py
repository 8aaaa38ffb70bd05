"""Compensations of units: each refit against brute force on the rows that its moments were taken of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.pruning.common.moments import Moments
from modelopt_cli.pruning.compensations import Compensated, UnitCompensation
from tests.support.unit_cases import compensation

NAMES = [
    name
    for name in FAMILIES["compensations"].names()
    if issubclass(FAMILIES["compensations"].get(name), UnitCompensation)
]
TINY = 1e-10
OPTIONS: dict[str, dict[str, Any]] = {"least_squares": {"damping": TINY}, "obs": {"damping": TINY}}


@dataclass(frozen=True)
class Rows:
    """x (N, n) before, x~ (N, s) after, e (N, out) owed, the layer's weight (out, n)."""

    x: Tensor
    now: Tensor
    kept: Tensor
    weight: Tensor
    owed: Tensor | None = None

    def moments(self, *, intercept: bool) -> Moments:
        x, y, count = self.x, self.now, len(self.x)
        extra = () if self.owed is None else (self.owed.T @ y / count, self.owed.mean(0))
        means = x.mean(0), y.mean(0)
        return Moments(self.kept, *means, x.T @ x / count, y.T @ y / count, x.T @ y / count, intercept, *extra)

    @property
    def wanted(self) -> Tensor:
        """(N, out)"""
        return self.x @ self.weight.T + (0.0 if self.owed is None else self.owed)

    def error(self, changed: Compensated) -> float:
        outputs = self.now @ changed.weight.T + (0.0 if changed.bias is None else changed.bias)
        return float((outputs - self.wanted).square().sum(1).mean())


def rows(seed: int = 0, *, drift: float = 0.3, owed: bool = False, count: int = 300) -> Rows:
    """Correlated inputs with means, five of eight stay; what stays has drifted, and depends on what went before."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = normal(count, 8) @ normal(8, 8) + normal(8)
    kept = torch.zeros(8, dtype=torch.bool)
    kept[torch.randperm(8, generator=generator)[:5]] = True
    now = x[:, kept] + drift * (torch.tanh(x) @ normal(8, 5) + normal(5))
    debt = torch.tanh(x @ normal(8, 4)) + 0.5 * normal(4) if owed else None
    return Rows(x, now, kept, normal(4, 8), debt)


def refit(name: str, given: Rows, *, intercept: bool = True, **options: Any) -> Compensated:
    method = compensation(name, **(options or OPTIONS.get(name, {})))
    return method.refit(given.weight, given.moments(intercept=intercept))


@pytest.mark.parametrize("owed", [False, True], ids=["nothing owed", "owed"])
@pytest.mark.parametrize("intercept", [False, True], ids=["no intercept", "intercept"])
def test_least_squares_is_lstsq(intercept: bool, owed: bool) -> None:
    case = rows(owed=owed)
    fitted = refit("least_squares", case, intercept=intercept)
    matrix = case.now.numpy()
    if intercept:
        matrix = np.hstack([matrix, np.ones((len(matrix), 1))])
    best = np.linalg.lstsq(matrix, case.wanted.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(fitted.weight.numpy(), best[:, :5], rtol=1e-6, atol=1e-7)
    if intercept:
        assert fitted.bias is not None
        np.testing.assert_allclose(fitted.bias.numpy(), best[:, 5], rtol=1e-6, atol=1e-7)
    else:
        assert fitted.bias is None


@pytest.mark.parametrize("intercept", [False, True], ids=["no intercept", "intercept"])
@pytest.mark.parametrize("damping", [0.01, 0.5])
def test_damped_least_squares_stays_near_the_weights_that_were_kept(damping: float, intercept: bool) -> None:
    """The penalty as rows of its own: sqrt(damping * mean variance) (W' - W_K)."""
    case = rows(1)
    center = (lambda values: values - values.mean(0)) if intercept else (lambda values: values)
    x, wanted = (center(each) / len(case.x) ** 0.5 for each in (case.now, case.wanted))
    strength = (damping * float(x.square().sum(0).mean())) ** 0.5
    matrix = torch.cat([x, strength * torch.eye(5, dtype=torch.float64)])
    target = torch.cat([wanted, strength * case.weight[:, case.kept].T])
    best = torch.linalg.lstsq(matrix, target).solution.T
    fitted = refit("least_squares", case, intercept=intercept, damping=damping)
    torch.testing.assert_close(fitted.weight, best)
    undamped = refit("least_squares", case, intercept=intercept)
    assert not torch.allclose(fitted.weight, undamped.weight, rtol=1e-3)


@pytest.mark.parametrize("damping", [TINY, 0.01, 0.5])
def test_obs_is_least_squares_with_what_goes_held_at_zero(damping: float) -> None:
    """min (W' - W) H (W' - W)^T with columns of 0, H = L L^T: rows L^T."""
    case = rows(2, drift=0.0)
    gram = case.x.T @ case.x / len(case.x)
    factor = torch.linalg.cholesky(gram + damping * gram.diagonal().mean() * torch.eye(8, dtype=torch.float64)).T
    best = torch.linalg.lstsq(factor[:, case.kept], factor @ case.weight.T).solution.T
    fitted = refit("obs", case, damping=damping)
    torch.testing.assert_close(fitted.weight, best, rtol=1e-5, atol=1e-6)
    assert fitted.bias is None
    assert not torch.allclose(fitted.weight, case.weight[:, case.kept], rtol=1e-2)


def test_obs_and_least_squares_agree_where_nothing_drifted() -> None:
    case = rows(3, drift=0.0)
    one, other = (refit(name, case, intercept=False) for name in ("obs", "least_squares"))
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-5, atol=1e-6)
    drifted = rows(3, drift=0.3)
    one, other = (refit(name, drifted, intercept=False) for name in ("obs", "least_squares"))
    assert not torch.allclose(one.weight, other.weight, rtol=1e-2)


@pytest.mark.parametrize("name", ["bias", "least_squares"])
def test_the_mean_output_stays(name: str) -> None:
    case = rows(4)
    fitted = refit(name, case)
    assert fitted.bias is not None
    torch.testing.assert_close((case.now @ fitted.weight.T + fitted.bias).mean(0), case.wanted.mean(0))
    plain = refit("none", case)
    assert not torch.allclose((case.now @ plain.weight.T).mean(0), case.wanted.mean(0), rtol=1e-2)


def test_bias_leaves_the_weights_and_none_leaves_all() -> None:
    case = rows(5)
    for compensated in (refit("bias", case), refit("none", case)):
        assert torch.equal(compensated.weight, case.weight[:, case.kept])
    assert refit("none", case).bias is None
    assert refit("bias", case, intercept=False).bias is None


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    intercept=st.booleans(),
    drift=st.sampled_from([0.0, 0.1, 1.0]),
    damping=st.sampled_from([TINY, 0.01, 1.0]),
)
def test_least_squares_is_never_worse(seed: int, intercept: bool, drift: float, damping: float) -> None:
    """Than what leaves the weights alone, however damped; undamped, than anything."""
    case = rows(seed, drift=drift, count=60)
    least = case.error(refit("least_squares", case, intercept=intercept, damping=damping))
    others = ["none", "bias", *(["obs"] if damping == TINY else [])]
    for name in others:
        assert least <= case.error(refit(name, case, intercept=intercept)) * (1 + 1e-6) + 1e-9, name


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_what_is_owed_is_paid(seed: int) -> None:
    """A fit that knows of it is at least as near to what is wanted; negative control: one that does not is not."""
    case = rows(seed, owed=True, count=60)
    blind = Rows(case.x, case.now, case.kept, case.weight)
    assert case.error(refit("least_squares", case)) < case.error(refit("least_squares", blind))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_fitted_one_by_one(name: str) -> None:
    case = rows(6)
    whole = refit(name, case)
    some = refit(name, Rows(case.x, case.now, case.kept, case.weight[[2, 0]]))
    torch.testing.assert_close(some.weight, whole.weight[[2, 0]])
    if whole.bias is not None:
        assert some.bias is not None
        torch.testing.assert_close(some.bias, whole.bias[[2, 0]])


@pytest.mark.parametrize("name", NAMES)
def test_a_common_scale_of_inputs_changes_nothing(name: str) -> None:
    """Damping is a share of what there is."""
    case = rows(7)
    fitted = refit(name, case, damping=0.1) if name in OPTIONS else refit(name, case)
    large = Rows(100.0 * case.x, 100.0 * case.now, case.kept, case.weight / 100.0)
    scaled = refit(name, large, damping=0.1) if name in OPTIONS else refit(name, large)
    torch.testing.assert_close(100.0 * scaled.weight, fitted.weight)
    assert (scaled.bias is None) == (fitted.bias is None)
    if scaled.bias is not None and fitted.bias is not None:
        torch.testing.assert_close(scaled.bias, fitted.bias)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_in_another_order_are_fitted_alike(name: str) -> None:
    case = rows(8)
    order = torch.tensor([3, 7, 0, 2, 6, 1, 5, 4])
    places = case.kept.nonzero()[:, 0].tolist()
    inner = torch.tensor([places.index(each) for each in order.tolist() if each in places])
    other = Rows(case.x[:, order], case.now[:, inner], case.kept[order], case.weight[:, order])
    torch.testing.assert_close(refit(name, other).weight, refit(name, case).weight[:, inner], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_went_nothing_changes(name: str) -> None:
    case = rows(9, drift=0.0)
    whole = Rows(case.x, case.x, torch.ones(8, dtype=torch.bool), case.weight)
    fitted = refit(name, whole)
    torch.testing.assert_close(fitted.weight, case.weight)
    assert fitted.bias is None or float(fitted.bias.abs().max()) < 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_and_equal_inputs_do_no_harm(name: str, dtype: torch.dtype) -> None:
    case = rows(10, drift=0.0)
    x = case.x.clone()
    places = case.kept.nonzero()[:, 0]
    x[:, places[0]] = 0.0  # never seen
    x[:, places[1]] = x[:, places[2]]
    x[:, places[3]] = 2.0  # constant: its variance is 0
    dead = Rows(x, x[:, case.kept], case.kept, case.weight.to(dtype))
    for damping in (1e-6, 0.01):
        fitted = refit(name, dead, damping=damping) if name in OPTIONS else refit(name, dead)
        assert fitted.weight.dtype == dtype
        assert bool(fitted.weight.isfinite().all())
        assert fitted.weight.abs().max() < 1e3


def test_only_those_that_look_at_moments_ask_for_them() -> None:
    assert {name for name in NAMES if not compensation(name).fits} == {"none"}
    assert {name for name in NAMES if compensation(name).everywhere} == {"least_squares"}
