"""Which weights go: against torch.nn.utils.prune, by counting, and by each allocation's own promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from modelopt_cli.pruning.allocations._lowest import lowest
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.allocations.threshold import Threshold
from modelopt_cli.pruning.allocations.uniform import Uniform
from modelopt_cli.pruning.importances.magnitude import Magnitude
from modelopt_cli.pruning.structures.nm import Nm
from modelopt_cli.pruning.structures.weights import Weights

AMOUNTS = [0.0, 0.1, 0.37, 0.5, 0.9, 1.0]


def layers() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"one": nn.Linear(13, 7), "two": nn.Conv2d(3, 5, 3), "three": nn.Linear(7, 11)}


def scores_of(modules: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    return Magnitude().score({name: module.weight for name, module in modules.items()})  # type: ignore[misc]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_uniform_is_torchs_l1_unstructured(amount: float) -> None:
    found = Weights().keep(scores_of(layers()), Uniform(amount=amount))
    for name, module in layers().items():
        prune.l1_unstructured(module, "weight", amount=amount)
        assert torch.equal(found[name], module.weight_mask.bool())  # type: ignore[union-attr]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_global_is_torchs_global_unstructured(amount: float) -> None:
    modules = layers()
    found = Weights().keep(scores_of(modules), Global(amount=amount))
    prune.global_unstructured(
        [(module, "weight") for module in modules.values()], pruning_method=prune.L1Unstructured, amount=amount
    )
    for name, module in modules.items():
        assert torch.equal(found[name], module.weight_mask.bool())  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_threshold_is_the_articles_rule(dtype: torch.dtype) -> None:
    weight = torch.tensor([[0.01, -0.01, 0.0099, -0.0101, 0.0, 1.0, float("nan"), float("-inf")]], dtype=dtype)
    kept = Weights().keep(Magnitude().score({"w": weight}), Threshold(value=0.01))["w"]
    pruned = torch.where(weight.abs() < 0.01, torch.zeros_like(weight), weight)
    assert torch.equal(weight.masked_fill(~kept, 0.0).isnan(), pruned.isnan())
    assert torch.equal(weight.masked_fill(~kept, 0.0).nan_to_num(), pruned.nan_to_num())


@settings(deadline=None)
@given(values=st.lists(st.integers(-3, 3) | st.just(float("nan")), min_size=1, max_size=40), share=st.floats(0, 1))
def test_lowest_is_exact_and_the_lowest(values: list[float], share: float) -> None:
    scores = torch.tensor(values, dtype=torch.float32)
    count = round(share * len(values))
    chosen = lowest(scores, count)
    order = sorted(range(len(values)), key=lambda i: (values[i] != values[i], values[i], i))  # stable, NaN last
    expected = torch.zeros(len(values), dtype=torch.bool)
    expected[order[:count]] = True
    if not any(value != value for value in values):
        assert torch.equal(chosen, expected)
    assert int(chosen.sum()) == count
    assert not (count <= sum(value == value for value in values) and bool(scores[chosen].isnan().any()))


@settings(deadline=None, max_examples=50)
@given(out=st.integers(1, 5), groups=st.integers(1, 4), m=st.integers(2, 6), conv=st.booleans(), data=st.data())
def test_nm_keeps_the_n_highest_of_every_group(out: int, groups: int, m: int, conv: bool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m - 1))
    shape = (out, groups * m, 3, 2) if conv else (out, groups * m)
    score = torch.rand(shape, generator=torch.Generator().manual_seed(out * 31 + m))
    kept = Nm(n=n, m=m).keep({"w": score}, None)["w"]
    rows = score.movedim(1, -1).reshape(-1, m)
    mask = kept.movedim(1, -1).reshape(-1, m)
    assert (mask.sum(dim=1) == n).all()
    assert torch.allclose((rows * mask).sum(dim=1), rows.topk(n, dim=1).values.sum(dim=1))


def test_two_to_four_leaves_two_of_every_four() -> None:
    weight = torch.randn(32, 64).half()
    kept = Nm().keep(Magnitude().score({"w": weight}), None)["w"]
    assert (kept.view(32, 16, 4).sum(-1) == 2).all()
    assert torch.equal(kept, Nm(n=2, m=4).keep({"w": weight.masked_fill(~kept, 0).abs()}, None)["w"]), "idempotent"


def test_nm_says_what_does_not_fit() -> None:
    assert Nm().problem((8, 6)) == "its input dimension 6 is no multiple of 4"
    assert Nm().problem((8,)) == "has no input dimension for 2:4"
    assert Nm().problem((8, 8, 3, 3)) is None
    with pytest.raises(ValueError, match="n must be below m"):
        Nm(n=4, m=4)
