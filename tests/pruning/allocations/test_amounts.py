"""An amount is of weights, whatever the structure and the allocation; what is missed is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modelopt_cli import load, prune
from modelopt_cli.pruning.allocations import Allocation, SensitivityProbe
from modelopt_cli.pruning.allocations.divergence import Divergence
from modelopt_cli.pruning.allocations.erk import Erk
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.allocations.lamp import Lamp
from modelopt_cli.pruning.allocations.sensitivity import Sensitivity
from modelopt_cli.pruning.allocations.threshold import Threshold
from modelopt_cli.pruning.allocations.uniform import Uniform
from modelopt_cli.pruning.common.cuts import BlockScores, Cut, joint_share
from modelopt_cli.pruning.structures.block import Block

SHAPES = {"stem": (8, 4, 3, 3), "point": (16, 8, 1, 1), "wide": (8, 16, 5, 5), "linear": (12, 16)}
ALLOCATIONS = [Global(), Lamp(), Erk(), Uniform(), Sensitivity(), Divergence()]


class Removed(SensitivityProbe):
    """What a cut costs: the squares of what it takes, summed over the blocks' own scores."""

    def __init__(self, scores: dict[str, Tensor]) -> None:
        self._scores = scores

    def loss(self, name: str, cut: Cut) -> float:
        return self.output_error(name, cut)

    def output_error(self, name: str, cut: Cut) -> float:
        removed = cut.removes(self._scores[name])
        return float(self._scores[name][removed].square().sum())


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def masks(allocation: Allocation, amount: float, given: dict[str, Tensor], floor: float = 0.0) -> dict[str, Tensor]:
    sizes = {name: weight.numel() for name, weight in given.items()}

    def cut(scores: Any) -> dict[str, Cut]:
        probe = Removed(dict(scores))
        return allocation.allocate_weights(scores, sizes, amount, keep_at_least=floor, probe=probe)

    return dict(Block(rows=2, columns=4).keep({name: each.abs() for name, each in given.items()}, torch.abs, {}, cut))


def gone(kept: dict[str, Tensor]) -> int:
    return sum(int((~mask).sum()) for mask in kept.values())


@pytest.mark.slow
@pytest.mark.parametrize("allocation", ALLOCATIONS, ids=lambda each: each.name())
@pytest.mark.parametrize("amount", [0.05, 0.3, 0.6, 0.95])
def test_an_amount_of_blocks_is_one_of_weights(allocation: Allocation, amount: float) -> None:
    given = weights()
    total = sum(weight.numel() for weight in given.values())
    largest = 2 * 4 * 25  # weights of a block of the 5 x 5 kernel
    slack = largest * (len(given) / 2 if isinstance(allocation, Uniform) else 1)
    assert abs(gone(masks(allocation, amount, given)) - amount * total) <= slack


def test_blocks_are_compared_by_what_they_are_for_one_weight() -> None:
    """A kernel's block holds nine times the weights of a linear layer's, so its sum is larger and says nothing."""
    given = {"conv": torch.full((4, 4, 3, 3), 0.5), "linear": torch.full((12, 12), 1.0)}
    kept = masks(Global(), 0.5, given)
    assert not kept["conv"].any()
    assert kept["linear"].all()


def test_a_floor_counts_weights_too() -> None:
    given = weights()
    kept = masks(Global(), 0.9, given, floor=0.25)
    total = sum(weight.numel() for weight in given.values())
    assert all(float(mask.float().mean()) >= 0.25 for mask in kept.values())
    assert abs(gone(kept) - 0.75 * total) <= 2 * 4 * 25, "as much as the floors let go"


def test_a_threshold_is_compared_with_the_scores_themselves() -> None:
    given = {"conv": torch.full((4, 4, 3, 3), 0.5), "linear": torch.full((12, 12), 1.0)}  # sums: 36 and 8 a block
    kept = masks(Threshold(), 10.0, given)
    assert kept["conv"].all()
    assert not kept["linear"].any()


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=4),
    st.floats(0, 1),
    st.integers(0, 99),
    st.booleans(),
)
def test_a_ranking_of_blocks_is_a_ranking_and_misses_by_less_than_one_score(
    sizes: list[tuple[int, int]], share: float, seed: int, coarse: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = {str(number): torch.rand(size, generator=generator) for number, (size, _) in enumerate(sizes)}
    if coarse:  # many equal ones
        scores = {name: (3 * score).floor() for name, score in scores.items()}
    blocks = {str(number): block for number, (_, block) in enumerate(sizes)}
    cuts = joint_share(BlockScores(scores, blocks), share)
    removed = {name: cut.removes(scores[name]) for name, cut in cuts.items()}
    total = sum(score.numel() * blocks[name] for name, score in scores.items())
    taken = sum(int(removed[name].sum()) * blocks[name] for name in scores)
    assert abs(taken - round(share * total)) <= max(blocks.values())
    lost = [float(score[removed[name]].max()) for name, score in scores.items() if removed[name].any()]
    left = [float(score[~removed[name]].min()) for name, score in scores.items() if not removed[name].all()]
    assert not lost or not left or max(lost) <= min(left)


@pytest.mark.parametrize("allocation", ALLOCATIONS[:4], ids=lambda each: each.name())
def test_where_scores_stand_for_one_weight_each_nothing_changes(allocation: Allocation) -> None:
    scores = {name: weight.abs() for name, weight in weights().items()}
    sizes = {name: score.numel() for name, score in scores.items()}
    assert allocation.allocate_weights(scores, sizes, 0.4) == allocation.allocate(scores, 0.4)


def pruned(**pruning: Any) -> Any:
    return prune(
        load(
            {
                "version": 1,
                "data": {"type": "digits", "shape": "image", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
                "model": {"type": "cifar_resnet", "depth": 8, "width": 4, "shortcut": "B"},
                "training": {"epochs": 1},
                "pruning": pruning,
            }
        )
    )


def test_a_budget_of_blocks_is_met() -> None:
    report = pruned(structure={"type": "block", "rows": 2, "columns": 2}, budget={"nonzero": "60%"})
    assert report.metrics["model.nonzero"] / report.metrics["model.parameters"] == pytest.approx(0.6, abs=0.01)
    assert report.warnings == []


@pytest.mark.slow
def test_a_budget_of_bytes_is_met_by_blocks() -> None:
    report = pruned(structure={"type": "block", "rows": 2, "columns": 2}, budget={"size_bytes": "70%"})
    dense = pruned(amount=0.0).metrics["model.compressed_bytes"]
    assert report.metrics["model.compressed_bytes"] <= 0.71 * dense


@pytest.mark.slow
def test_what_keep_at_least_holds_back_is_told() -> None:
    report = pruned(budget={"nonzero": 400}, keep_at_least=0.5)
    assert any("budget.nonzero" in text and "keep_at_least is 0.5" in text for text in report.warnings)
    assert not any("keep_at_least is" in text for text in pruned(amount=0.3, keep_at_least=0.5).warnings)


@pytest.mark.slow
@pytest.mark.parametrize(("amount", "warned"), [(0.66, False), (0.7, True), (0.74, True)])
def test_units_that_rounding_holds_back_are_told(amount: float, warned: bool) -> None:
    """28 of 44 units is the most that steps of two allow: 29 is within a step of it, 31 is not."""
    report = prune(
        load(
            {
                "version": 1,
                "data": {"type": "digits", "shape": "image", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
                "model": {"type": "cifar_resnet", "depth": 8, "width": 4},
                "training": {"epochs": 1},
                "pruning": {
                    "structure": {"type": "neurons", "round_to": 2},
                    "importance": "l2",
                    "amount": amount,
                },
            }
        )
    )
    assert any("structure.round_to is 2" in text for text in report.warnings) is warned


def test_a_block_that_is_larger_than_the_amount_is_told() -> None:
    report = pruned(structure={"type": "block", "rows": 16, "columns": 16}, amount=0.1)
    reached = report.metrics["pruning.sparsity"]
    assert abs(reached - 0.1) <= 0.05 or any("pruning.amount asks that" in text for text in report.warnings)
