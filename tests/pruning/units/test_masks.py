"""From shares to masks within a limit; groups that must keep the same share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.allocations.uniform import Uniform
from modelopt_cli.pruning.common.cuts import joint_share
from modelopt_cli.pruning.structures.neurons import Neurons
from modelopt_cli.pruning.units.masks import Masks, near, removed, tied, within


def ranks_of(sizes: list[int], seed: int) -> dict[str, Tensor]:
    """No two alike."""
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed)).double()
    return {f"g{number}": part for number, part in enumerate(order.split(sizes))}


def chooser(ranks: Mapping[str, Tensor], structure: Neurons) -> Callable[[float], Masks]:
    return lambda share: structure.keep(ranks, lambda scores: joint_share(scores, share))


def left(masks: Masks) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def product_cost(prices: Mapping[str, float]) -> Callable[[Masks], float]:
    """As layers have it: what a unit saves depends on its neighbours' numbers; monotone."""

    def cost(masks: Masks) -> float:
        counts, total, before = left(masks), 0.0, 3
        for name, price in prices.items():
            total += price * before * counts[name]
            before = counts[name]
        return total + before

    return cost


SIZES = st.lists(st.integers(1, 8), min_size=1, max_size=4)
PRICES = st.lists(st.floats(0.1, 10.0), min_size=4, max_size=4)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(sizes=SIZES, prices=PRICES, seed=st.integers(0, 1000), part=st.floats(0.0, 1.1))
def test_the_limit_is_met_and_filled_up(sizes: list[int], prices: list[float], seed: int, part: float) -> None:
    ranks = ranks_of(sizes, seed)
    cost = product_cost(dict(zip(ranks, prices, strict=False)))
    masks = chooser(ranks, Neurons())
    least, most = cost(masks(1.0)), cost(masks(0.0))
    limit = least + part * (most - least)
    fitting = within(cost, masks, limit, ranks)
    assert fitting is not None
    assert cost(fitting) <= limit
    kept = torch.cat(list(fitting.values()))
    if part >= 1.0:
        assert bool(kept.all())
        return
    for name, mask in fitting.items():  # filled up: there is room for none of the units that went
        if not bool(mask.all()):
            more = mask.clone()
            more[ranks[name].masked_fill(mask, -1.0).argmax()] = True
            assert cost({**fitting, name: more}) > limit
    for name, mask in fitting.items():  # in a group the best stay
        if not bool(mask.all()):
            assert float(ranks[name][~mask].max()) < float(ranks[name][mask].min())
    assert all(count >= 1 for count in left(fitting).values())


LIMITS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(sizes=SIZES, shares=LIMITS, seed=st.integers(0, 1000), amount=st.floats(0.0, 1.0), uniform=st.booleans())
def test_what_a_group_may_not_give_the_others_give(
    sizes: list[int], shares: list[float], seed: int, amount: float, uniform: bool
) -> None:
    ranks = ranks_of(sizes, seed)
    structure = Neurons(limits=dict(zip(ranks, shares, strict=False)))
    allocation = Uniform() if uniform else Global()
    cuts = allocation.cuts(ranks, amount)
    wanted = sum(cut.count(ranks[name]) for name, cut in cuts.items())
    kept = near(
        wanted, amount, lambda share: structure.keep(ranks, lambda scores: allocation.cuts(scores, share)), ranks
    )
    most = {name: structure.most(name, score.numel()) for name, score in ranks.items()}
    assert removed(kept) == min(wanted, sum(most.values()))
    for name, mask in kept.items():
        assert int((~mask).sum()) <= most[name]
        if not bool(mask.all()):  # in a group the best stay
            assert float(ranks[name][~mask].max()) < float(ranks[name][mask].min())


@pytest.mark.slow
def test_in_steps_no_more_is_missing_than_a_step_would_be_too_much() -> None:
    ranks = ranks_of([16, 16, 12], 0)
    masks = chooser(ranks, Neurons(round_to=4))
    for wanted in range(12, 33):
        kept = near(wanted, wanted / 44, masks, ranks, set(ranks), dict.fromkeys(ranks, 4))
        assert all(count % 4 == 0 for count in left(kept).values())
        assert abs(removed(kept) - wanted) <= abs(removed(masks(wanted / 44)) - wanted)
        assert abs(removed(kept) - wanted) < 4
    assert left(near(44, 1.0, masks, ranks, set(ranks))) == {"g0": 4, "g1": 4, "g2": 4}


@pytest.mark.slow
def test_a_limit_below_what_can_go_is_none() -> None:
    ranks = ranks_of([4, 4], 0)
    cost = product_cost({"g0": 1.0, "g1": 1.0})
    masks = chooser(ranks, Neurons())
    assert within(cost, masks, cost(masks(1.0)) - 0.1, ranks) is None
    assert left(within(cost, masks, cost(masks(1.0)), ranks) or {}) == {"g0": 1, "g1": 1}


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(sizes=SIZES, prices=PRICES, seed=st.integers(0, 1000), part=st.floats(0.0, 1.0), step=st.integers(2, 4))
def test_steps_are_not_taken_in_part(sizes: list[int], prices: list[float], seed: int, part: float, step: int) -> None:
    ranks = ranks_of(sizes, seed)
    cost = product_cost(dict(zip(ranks, prices, strict=False)))
    masks = chooser(ranks, Neurons(round_to=step))
    least, most = cost(masks(1.0)), cost(masks(0.0))
    steps = dict.fromkeys(ranks, step)
    kept = within(cost, masks, least + part * (most - least), ranks, set(ranks), steps)
    assert kept is not None
    assert cost(kept) <= least + part * (most - least) + 1e-9
    assert all(count % step == 0 or count == len(ranks[name]) for name, count in left(kept).items())


def test_what_only_the_last_step_took_is_put_back_in_part() -> None:
    """One step of a coarse choice takes four units of a group; the limit has room for three of them, the best."""
    ranks = {"g0": torch.arange(8.0)}

    def masks(share: float) -> Masks:
        return {"g0": torch.arange(8) >= (4 if share > 0.5 else 0)}

    cost = lambda kept: float(left(kept)["g0"])  # noqa: E731
    kept = within(cost, masks, 7.0, ranks)
    assert kept is not None
    assert kept["g0"].tolist() == [False] + [True] * 7
    whole = within(cost, masks, 7.0, ranks, {"g0"})
    assert whole is not None
    assert left(whole) == {"g0": 4}


def test_whole_steps_are_put_back_as_long_as_they_fit() -> None:
    """Rounding to 4 leaves the least share far below the limit: one group's last step fits, the other's does not."""
    ranks = {"g0": torch.arange(8.0), "g1": torch.arange(8.0) + 100.0}

    def masks(share: float) -> Masks:
        return {name: torch.arange(8) >= (4 if share > 0.5 else 0) for name in ranks}

    cost = lambda masks_now: left(masks_now)["g0"] + 3.0 * left(masks_now)["g1"]  # noqa: E731
    steps = dict.fromkeys(ranks, 4)
    assert left(within(cost, masks, 27.0, ranks, set(ranks)) or {}) == {"g0": 4, "g1": 4}
    assert left(within(cost, masks, 27.0, ranks, set(ranks), steps) or {}) == {"g0": 8, "g1": 4}
    assert left(within(cost, masks, 29.0, ranks, set(ranks), steps) or {}) == {"g0": 4, "g1": 8}


def test_the_best_group_is_put_back_first() -> None:
    ranks = {"g0": torch.tensor([0.0, 5.0]), "g1": torch.tensor([0.0, 9.0])}

    def masks(share: float) -> Masks:
        stays = torch.tensor([True, share < 0.5])
        return {"g0": stays, "g1": stays.clone()}

    cost = lambda kept: float(sum(left(kept).values()))  # noqa: E731
    kept = within(cost, masks, 3.0, ranks)
    assert kept is not None
    assert left(kept) == {"g0": 1, "g1": 2}


# Ties


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([4, 6, 8, 12]), min_size=2, max_size=4),
    seed=st.integers(0, 1000),
    share=st.floats(0.0, 1.0),
)
def test_tied_groups_keep_the_same_share(sizes: list[int], seed: int, share: float) -> None:
    ranks = ranks_of(sizes, seed)
    masks = chooser(ranks, Neurons())(share)
    tie = frozenset(list(ranks)[:-1] if len(sizes) > 2 else ranks)
    kept = tied(masks, ranks, [tie])
    shares = {left(kept)[name] / len(ranks[name]) for name in tie}
    assert max(shares) - min(shares) < 1e-9
    for name, mask in masks.items():
        if name not in tie:
            assert torch.equal(kept[name], mask)
            continue
        assert int(kept[name].sum()) >= int(mask.sum())  # that of the one that keeps most
        assert bool((kept[name] | ~mask).all())  # and what stayed stays
        assert bool(kept[name].all()) or float(ranks[name][~kept[name]].max()) < float(ranks[name][kept[name]].min())


def test_a_tie_of_one_is_none_and_the_largest_share_counts() -> None:
    ranks = {"a": torch.arange(4.0), "b": torch.arange(8.0)}
    masks = {"a": torch.tensor([False, False, True, True]), "b": torch.tensor([False] + [True] * 7)}
    assert tied(masks, ranks, [frozenset({"a", "gone"})])["a"].tolist() == masks["a"].tolist()
    kept = tied(masks, ranks, [frozenset({"a", "b"})])
    assert left(kept) == {"a": 4, "b": 8}  # 7/8 is no share of 4
    few = {"a": masks["a"], "b": torch.tensor([False] * 3 + [True] * 5)}
    assert left(tied(few, ranks, [frozenset({"a", "b"})])) == {"a": 3, "b": 6}
