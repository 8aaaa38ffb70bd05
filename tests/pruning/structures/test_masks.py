"""Which weights go: against torch.nn.utils.prune, by counting, and by each structure's own promise."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from modelopt_cli.pruning.allocations import Allocation
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.allocations.threshold import Threshold
from modelopt_cli.pruning.allocations.uniform import Uniform
from modelopt_cli.pruning.common.cuts import Cut
from modelopt_cli.pruning.common.statistics import Statistics
from modelopt_cli.pruning.importances.magnitude import Magnitude
from modelopt_cli.pruning.structures import MaskStructure, Structure
from modelopt_cli.pruning.structures.block import Block
from modelopt_cli.pruning.structures.nm import Nm
from modelopt_cli.pruning.structures.weights import Weights

AMOUNTS = [0.0, 0.1, 0.37, 0.5, 0.9, 1.0]
Tensors = dict[str, torch.Tensor]


def layers() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"one": nn.Linear(13, 7), "two": nn.Conv2d(3, 5, 3), "three": nn.Linear(7, 11)}


def weights_of(modules: dict[str, nn.Module]) -> Tensors:
    return {name: module.weight for name, module in modules.items()}  # type: ignore[misc]


def keep(
    structure: Structure,
    weights: Tensors,
    allocation: Allocation | None = None,
    target: float = 0.0,
    floor: float = 0.0,
) -> Tensors:
    importance = Magnitude()
    contributions = importance.contributions(weights, Statistics())

    def cut(scores: Mapping[str, Tensor]) -> Mapping[str, Cut]:
        return {} if allocation is None else allocation.allocate(scores, target, keep_at_least=floor)

    assert isinstance(structure, MaskStructure)
    return dict(structure.keep(contributions, importance.merit, {}, cut))


@pytest.mark.parametrize("amount", AMOUNTS)
def test_uniform_is_torchs_l1_unstructured(amount: float) -> None:
    kept = keep(Weights(), weights_of(layers()), Uniform(), amount)
    for name, module in layers().items():
        prune.l1_unstructured(module, "weight", amount=amount)
        assert torch.equal(kept[name], module.weight_mask.bool())  # type: ignore[operator]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_global_is_torchs_global_unstructured(amount: float) -> None:
    modules = layers()
    kept = keep(Weights(), weights_of(modules), Global(), amount)
    prune.global_unstructured(
        [(module, "weight") for module in modules.values()], pruning_method=prune.L1Unstructured, amount=amount
    )
    for name, module in modules.items():
        assert torch.equal(kept[name], module.weight_mask.bool())  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_threshold_is_the_articles_rule(dtype: torch.dtype) -> None:
    weight = torch.tensor([[0.01, -0.01, 0.0099, -0.0101, 0.0, 1.0, float("nan"), float("-inf")]], dtype=dtype)
    kept = keep(Weights(), {"w": weight}, Threshold(), 0.01)["w"]
    pruned = torch.where(weight.abs() < 0.01, torch.zeros_like(weight), weight)
    assert torch.equal(weight.masked_fill(~kept, 0.0).isnan(), pruned.isnan())
    assert torch.equal(weight.masked_fill(~kept, 0.0).nan_to_num(), pruned.nan_to_num())


@settings(deadline=None, max_examples=50)
@given(out=st.integers(1, 5), groups=st.integers(1, 4), m=st.integers(2, 6), conv=st.booleans(), data=st.data())
def test_nm_keeps_the_n_highest_of_every_group(out: int, groups: int, m: int, conv: bool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, m - 1))
    shape = (out, groups * m, 3, 2) if conv else (out, groups * m)
    score = torch.rand(shape, generator=torch.Generator().manual_seed(out * 31 + m))
    kept = keep(Nm(n=n, m=m), {"w": score})["w"]
    rows = score.movedim(1, -1).reshape(-1, m)
    mask = kept.movedim(1, -1).reshape(-1, m)
    assert (mask.sum(dim=1) == n).all()
    assert torch.allclose((rows * mask).sum(dim=1), rows.topk(n, dim=1).values.sum(dim=1))


def test_two_to_four_leaves_two_of_every_four() -> None:
    weight = torch.randn(32, 64).half()
    kept = keep(Nm(), {"w": weight})["w"]
    assert (kept.view(32, 16, 4).sum(-1) == 2).all()
    assert torch.equal(kept, keep(Nm(), {"w": weight.masked_fill(~kept, 0)})["w"]), "idempotent"


def test_nm_says_what_does_not_fit() -> None:
    assert Nm().problem((8, 6)) == "its input dimension 6 is no multiple of 4"
    assert Nm().problem((8,)) == "has no input dimension for 2:4"
    assert Nm().problem((8, 8, 3, 3)) is None
    with pytest.raises(ValueError, match="n must be below m"):
        Nm(n=4, m=4)


@pytest.mark.parametrize("shape", [(8, 6), (4, 9, 3, 3)])
def test_blocks_go_whole_and_the_least_go_first(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    kept = keep(Block(rows=2, columns=3), {"w": weight}, Global(), 0.5)["w"]
    blocks = {
        (i, j): (weight[i : i + 2, j : j + 3].abs().sum(), kept[i : i + 2, j : j + 3])
        for i in range(0, shape[0], 2)
        for j in range(0, shape[1], 3)
    }
    assert all(bool(mask.all()) or not bool(mask.any()) for _, mask in blocks.values())
    removed = [float(score) for score, mask in blocks.values() if not mask.any()]
    stay = [float(score) for score, mask in blocks.values() if mask.any()]
    assert len(removed) == round(0.5 * len(blocks))
    assert max(removed) < min(stay)
    assert Block().problem((6, 8)) == "its 6 outputs x 8 inputs do not divide into 4x4 blocks"
    assert Block().problem((8,)) == "has no 4x4 blocks"


def test_what_is_removed_already_goes_first() -> None:
    weight, removed = torch.tensor([[5.0, 1.0, 2.0, 3.0]]), torch.tensor([[True, False, False, False]])
    magnitude = Magnitude()
    kept = Weights().keep(
        magnitude.contributions({"w": weight}, Statistics()),
        magnitude.merit,
        {"w": removed},
        lambda scores: Global().cuts(scores, 0.5),
    )
    assert kept["w"].tolist() == [[False, False, True, True]]
