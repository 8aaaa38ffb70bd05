"""Where a ranking is cut: exactly so many, the lowest, ties in memory order; and allocations against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe
from modelopt_cli.pruning.allocations.erk import Erk
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.allocations.lamp import Lamp
from modelopt_cli.pruning.allocations.sensitivity import Sensitivity
from modelopt_cli.pruning.allocations.threshold import Threshold
from modelopt_cli.pruning.allocations.uniform import Uniform
from modelopt_cli.pruning.common.cuts import Cut, joint, joint_share, lowest

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
VALUE = st.one_of(
    st.integers(-3, 3).map(float), st.sampled_from([-0.0, math.inf, -math.inf, math.nan, 1e-30, 0.1, 0.3])
)


def expected(scores: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """By a stable sort of everything; NaN counts as infinite."""
    order = sorted(
        ((math.inf if math.isnan(value) else value, number, name, i)
         for number, (name, score) in enumerate(scores.items())
         for i, value in enumerate(score.double().reshape(-1).tolist())),
        key=lambda item: (item[0], item[1], item[3]),
    )  # fmt: skip
    removed = {name: torch.zeros(score.numel(), dtype=torch.bool) for name, score in scores.items()}
    for _, _, name, i in order[:count]:
        removed[name][i] = True
    return {name: mask.view(scores[name].shape) for name, mask in removed.items()}


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    parts=st.lists(
        st.tuples(st.lists(VALUE, min_size=1, max_size=20), st.sampled_from(DTYPES)), min_size=1, max_size=4
    ),
    share=st.floats(0, 1),
)
def test_a_joint_cut_is_exact_and_takes_the_lowest(parts: list[tuple[list[float], torch.dtype]], share: float) -> None:
    scores = {str(i): torch.tensor(values, dtype=dtype) for i, (values, dtype) in enumerate(parts)}
    count = round(share * sum(score.numel() for score in scores.values()))
    wanted = expected(scores, count)
    for cuts in (joint(scores, count), joint_share(scores, share)):
        for name, score in scores.items():
            assert torch.equal(cuts[name].removes(score), wanted[name]), (name, cuts[name], score)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 4999, 9999, 10_000])
def test_many_scores(dtype: torch.dtype, count: int) -> None:
    scores = torch.randn(100, 100, generator=torch.Generator().manual_seed(1)).to(dtype)
    removed = lowest(scores, count).removes(scores)
    assert torch.equal(removed, expected({"": scores}, count)[""])


def test_nan_is_never_below_a_threshold() -> None:
    assert Cut(1.0).removes(torch.tensor([math.nan, 0.5, 1.0])).tolist() == [False, True, False]


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"small": (4, 5), "wide": (8, 60), "kernel": (6, 4, 3, 3), "large": (40, 50)}
    return {
        name: torch.rand(shape, generator=generator) * (i + 1) + 1e-3 for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.slow
@pytest.mark.parametrize("allocation", [Global(), Uniform(), Lamp(), Erk()])
@pytest.mark.parametrize("floor", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("target", [0.0, 0.5, 0.69])
def test_a_floor_holds_and_the_total_stays(allocation: Allocation, floor: float, target: float) -> None:
    scores = tensors()
    cuts = allocation.allocate(scores, target, keep_at_least=floor)
    removed = {name: cuts[name].count(score) for name, score in scores.items()}
    for name, score in scores.items():
        assert score.numel() - removed[name] >= math.ceil(floor * score.numel())
    total = sum(score.numel() for score in scores.values())
    slack = len(scores) if isinstance(allocation, Uniform) else 0  # rounds tensor by tensor
    assert abs(sum(removed.values()) - round(target * total)) <= slack


def test_a_floor_above_what_is_to_stay_wins() -> None:
    scores = tensors()
    cuts = Global().allocate(scores, 0.9, keep_at_least=0.5)
    assert all(cuts[name].count(score) == score.numel() // 2 for name, score in scores.items())
    assert Threshold().allocate({"w": torch.arange(10.0)}, 9.0, keep_at_least=0.3)["w"].count(torch.arange(10.0)) == 7


@pytest.mark.slow
def test_lamp_is_its_formula() -> None:
    """Lee et al. 2021, eq. 1: w[u]^2 over the sum of w[v]^2 for v >= u in ascending order of |w|."""
    scores = tensors()
    shares = {}
    for name, score in scores.items():
        flat = score.reshape(-1).double()
        order = sorted(range(len(flat)), key=lambda i: float(flat[i]))
        share = torch.empty_like(flat)
        for rank, i in enumerate(order):
            share[i] = flat[i] ** 2 / sum(float(flat[j]) ** 2 for j in order[rank:])
        shares[name] = share.view(score.shape)
    for target in (0.1, 0.5, 0.9, 0.97):
        count = round(target * sum(score.numel() for score in scores.values()))
        cuts = Lamp().cuts(scores, target)
        for name, wanted in expected(shares, count).items():
            assert torch.equal(cuts[name].removes(scores[name]), wanted)
    with pytest.raises(UsageError, match="signed"):
        Lamp().cuts({"w": torch.tensor([-1.0, 1.0])}, 0.5)


def test_erk_is_its_formula() -> None:
    """Evci et al. 2020: density proportional to (sum of the sizes) / (product of the sizes), none above 1."""
    scores = tensors()
    total = sum(score.numel() for score in scores.values())
    for target in (0.3, 0.6, 0.9):
        raw = {name: sum(score.shape) / score.numel() for name, score in scores.items()}
        dense: set[str] = set()
        while True:
            kept = (1 - target) * total - sum(scores[name].numel() for name in dense)
            scale = kept / sum(raw[name] * scores[name].numel() for name in scores if name not in dense)
            over = {name for name in scores if name not in dense and scale * raw[name] > 1}
            if not over:
                break
            dense |= over
        cuts = Erk().cuts(scores, target)
        removed = {name: cuts[name].count(score) for name, score in scores.items()}
        assert sum(removed.values()) == round(target * total)
        for name, score in scores.items():
            density = 1.0 if name in dense else scale * raw[name]
            assert abs(removed[name] - (1 - density) * score.numel()) <= 1


def test_sensitivity_spares_what_costs() -> None:
    scores = tensors()
    cost = {"small": 0.0, "wide": 10.0, "kernel": 0.1, "large": 1.0}
    seen: list[tuple[str, float]] = []

    class Costs(SensitivityProbe):
        def loss(self, name: str, cut: Cut) -> float:
            share = cut.count(scores[name]) / scores[name].numel()
            seen.append((name, share))
            return 1.0 + cost[name] * share**2

        def output_error(self, name: str, cut: Cut) -> float:
            raise AssertionError("it looks at the loss alone")

    cuts = Sensitivity().cuts(scores, 0.6, Costs())
    shares = {name: cuts[name].count(score) / score.numel() for name, score in scores.items()}
    total = sum(score.numel() for score in scores.values())
    assert sum(cuts[name].count(score) for name, score in scores.items()) == round(0.6 * total)
    assert shares["small"] >= shares["kernel"] >= shares["large"] > shares["wide"]
    assert {name for name, _ in seen} == set(scores)
    with pytest.raises(UsageError, match="needs a model and data"):
        Sensitivity().cuts(scores, 0.5)
