"""The divergence allocation against a search of every vector of counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.allocations import SensitivityProbe
from modelopt_cli.pruning.allocations.divergence import Divergence
from modelopt_cli.pruning.common.cuts import Cut
from modelopt_cli.pruning.common.distances import divergence
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.weights.masking import Masking
from modelopt_cli.pruning.weights.pruner import WeightPruner
from tests.support.unit_cases import batches, inputs_of, loss, make

Curves = Mapping[str, list[float]]


class Table(SensitivityProbe):
    """Error by count from a table, and prices (1 by default)."""

    def __init__(self, scores: Mapping[str, Tensor], curves: Curves, prices: Mapping[str, float] | None = None) -> None:
        self.scores, self.curves, self.prices = scores, curves, prices or {}
        self.tried: list[tuple[str, int]] = []

    def loss(self, name: str, cut: Cut) -> float:
        raise AssertionError("it looks at the error alone")

    def output_error(self, name: str, cut: Cut) -> float:
        count = cut.count(self.scores[name])
        self.tried.append((name, count))
        return self.curves[name][count]

    def price(self, name: str) -> float:
        return self.prices.get(name, 1.0)


def ranked(sizes: list[int], dead: list[int] | None = None, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for number, size in enumerate(sizes):
        score = torch.rand(size, generator=generator)
        score[torch.randperm(size, generator=generator)[: (dead or [0] * len(sizes))[number]]] = -math.inf
        scores[f"g{number}"] = score
    return scores


def removed(scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe, **options: Any) -> dict[str, int]:
    cuts = Divergence(**options).cuts(scores, target, probe)
    return {name: cuts[name].count(score) for name, score in scores.items()}


def brute_force(curves: Curves, prices: Mapping[str, float], wanted: float) -> float:
    """The least error of all vectors of counts that save enough."""
    least = math.inf
    for counts in itertools.product(*(range(len(curve)) for curve in curves.values())):
        if sum(prices[name] * count for name, count in zip(curves, counts, strict=True)) >= wanted - 1e-9:
            least = min(least, sum(curve[count] for curve, count in zip(curves.values(), counts, strict=True)))
    return least


def completed(curves: Curves) -> dict[str, list[float]]:
    """With what the allocation says of the last one."""
    return {name: [*curve, 10.0 * curve[-1] + 10.0] for name, curve in curves.items()}


def summed(rises: list[list[float]]) -> dict[str, list[float]]:
    return {f"g{number}": [0.0, *itertools.accumulate(each)] for number, each in enumerate(rises)}


RISES = st.lists(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=5), min_size=1, max_size=3)
TARGETS = st.integers(0, 1000).map(lambda n: n / 1000)  # not so near to a whole number of units that rounding decides


@settings(deadline=None, max_examples=30)
@given(rises=RISES, target=TARGETS)
def test_where_each_more_costs_more_it_is_the_best_there_is(rises: list[list[float]], target: float) -> None:
    """Units of one price: the marginal errors are taken in order, so that nothing is better."""
    curves = summed([sorted(each) for each in rises])
    scores, prices = ranked([len(curve) for curve in curves.values()]), dict.fromkeys(curves, 1.0)
    counts = removed(scores, target, Table(scores, curves))
    wanted = target * sum(len(score) for score in scores.values())
    assert sum(counts.values()) == math.ceil(wanted - 1e-9)
    whole = completed(curves)
    error = sum(whole[name][count] for name, count in counts.items())
    assert error == pytest.approx(brute_force(whole, prices, wanted), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(rises=RISES, prices=st.lists(st.floats(0.2, 5.0), min_size=3, max_size=3), target=TARGETS)
def test_it_is_within_a_step_of_the_best(rises: list[list[float]], prices: list[float], target: float) -> None:
    """Any curves and prices: a multiplier finds corners of the hull, so it is off by the way between two at most."""
    curves = summed(rises)
    price = dict(zip(curves, prices, strict=False))
    scores = ranked([len(curve) for curve in curves.values()])
    counts = removed(scores, target, Table(scores, curves, price))
    whole = completed(curves)
    wanted = target * sum(price[name] * len(score) for name, score in scores.items())
    assert sum(price[name] * count for name, count in counts.items()) >= wanted - 1e-9
    error, best = sum(whole[name][count] for name, count in counts.items()), brute_force(whole, price, wanted)
    assert best - 1e-9 <= error <= best + max(max(curve) for curve in whole.values()) + 1e-9
    assert sum(price[name] * (count - 1) for name, count in counts.items()) < wanted or not any(counts.values())


@settings(deadline=None, max_examples=20)
@given(
    rises=RISES,
    prices=st.lists(st.floats(0.2, 5.0), min_size=3, max_size=3),
    targets=st.tuples(TARGETS, TARGETS),
)
def test_more_is_saved_for_a_larger_target(
    rises: list[list[float]], prices: list[float], targets: tuple[float, float]
) -> None:
    curves = summed(rises)
    scores, price = ranked([len(curve) for curve in curves.values()]), dict(zip(curves, prices, strict=False))
    low, high = (removed(scores, target, Table(scores, curves, price)) for target in sorted(targets))
    saved = [sum(price[name] * count for name, count in counts.items()) for counts in (low, high)]
    assert saved[0] <= saved[1] + 1e-9


def test_prices_count() -> None:
    """Of two that hurt alike the dearer one goes; negative control: at one price the first."""
    curves = {name: [0.1 * count**2 for count in range(10)] for name in ("g0", "g1")}
    scores = ranked([10, 10])
    dear = removed(scores, 0.4, Table(scores, curves, {"g0": 1.0, "g1": 4.0}))
    assert dear["g1"] > dear["g0"]
    alike = removed(scores, 0.4, Table(scores, curves))
    assert alike == {"g0": 4, "g1": 4}


def test_what_is_gone_goes_first_and_costs_nothing() -> None:
    scores = ranked([6, 6], [3, 0])
    curves = {"g0": [9.0, 9.0, 9.0, 0.0, 1.0, 2.0], "g1": [0.0, 0.5, 2.0, 3.5, 5.0, 8.0]}
    table = Table(scores, curves)
    cuts = Divergence().cuts(scores, 5 / 12, table)
    assert {name: cuts[name].count(score) for name, score in scores.items()} == {"g0": 4, "g1": 1}
    assert all(count > 3 for name, count in table.tried if name == "g0")
    assert bool(cuts["g0"].removes(scores["g0"])[scores["g0"] == -math.inf].all())
    assert removed(scores, 1 / 12, table)["g1"] == 0  # enough is gone already


@pytest.mark.parametrize("sizes", [[4, 3], [1, 5], [0, 4]])
def test_a_tensor_of_which_nothing_is_left(sizes: list[int]) -> None:
    scores = ranked(sizes, [sizes[0], 0])
    curves = {"g0": [0.0] * 5, "g1": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    assert removed(scores, 1.0, Table(scores, curves)) == {"g0": sizes[0], "g1": sizes[1]}
    assert removed(scores, sizes[0] / sum(sizes), Table(scores, curves))["g1"] == 0


def test_shares_are_met_exactly_whatever_their_floats() -> None:
    scores = ranked([60, 40])
    curves = {name: [0.1 * count**2 for count in range(len(score))] for name, score in scores.items()}
    for hundredth in (0, 1, 7, 14, 28, 29, 55, 57, 58, 99, 100):
        assert sum(removed(scores, hundredth / 100, Table(scores, curves)).values()) == hundredth
    assert 0.07 * 100 > 7


def test_few_levels_are_interpolated_and_noise_does_not_pay() -> None:
    scores = ranked([40, 40])
    curves = {"g0": [0.02 * count for count in range(40)], "g1": [0.05 * count for count in range(40)]}
    curves["g0"][20] = -5.0  # better than nothing: it is not
    table = Table(scores, curves)
    assert removed(scores, 0.3, table, levels=4) == {"g0": 24, "g1": 0}
    assert sorted({count for _, count in table.tried}) == [10, 20, 30]
    curves["g1"] = [math.nan] * 40
    assert removed(scores, 0.3, Table(scores, curves), levels=4)["g1"] == 0


def test_the_last_one_goes_last() -> None:
    scores = ranked([4, 4])
    curves = {"g0": [0.0] * 4, "g1": [0.0, 5.0, 9.0, 9.5]}
    assert removed(scores, 0.5, Table(scores, curves)) == {"g0": 3, "g1": 1}


def test_it_needs_a_probe() -> None:
    with pytest.raises(UsageError, match="needs a model and data; use global"):
        Divergence().cuts(ranked([3]), 0.5)


def test_millions_of_weights_are_looked_at_as_often_as_ten() -> None:
    scores = {name: torch.linspace(0, 1, 1_000_000) for name in ("g0", "g1")}

    class Square(SensitivityProbe):
        tried = 0

        def loss(self, name: str, cut: Cut) -> float:
            raise AssertionError

        def output_error(self, name: str, cut: Cut) -> float:
            self.tried += 1
            return (1.0 if name == "g0" else 2.0) * (cut.count(scores[name]) / 1e6) ** 2

    probe = Square()
    counts = removed(scores, 0.3, probe)
    assert sum(counts.values()) == 600_000
    assert counts["g0"] > counts["g1"] > 0
    assert probe.tried == 30


# Where the shape of a curve is known without a pass


class Shaped(Table):
    """A table whose curves are near to multiples of their shapes, as those of layers are."""

    near, share = 1.0, 1 / 8  # as of units

    def __init__(
        self,
        scores: Mapping[str, Tensor],
        curves: Curves,
        shapes: Mapping[str, list[float]],
        prices: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(scores, curves, prices)
        self.shapes, self.noted = shapes, dict[tuple[str, int], float]()
        self.costs = dict.fromkeys(scores, 1.0)

    def output_error(self, name: str, cut: Cut) -> float:
        count = cut.count(self.scores[name])
        self.noted[name, count] = super().output_error(name, cut)
        return self.noted[name, count]

    def known_errors(self, name: str) -> Mapping[int, float]:
        return {count: error for (own, count), error in self.noted.items() if own == name}

    def shape(self, name: str, counts: Sequence[int]) -> Sequence[float] | None:
        return [self.shapes[name][count] for count in counts]

    def cost(self, name: str) -> float:
        return self.costs[name]


def like_layers(seed: int, groups: int = 8, size: int = 64) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """(output errors, shapes) by count: the ratio of both is another in each group, and drifts within it."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(groups, 3, generator=generator).tolist()
    curves, shapes = {}, {}
    for number, (scale, power, drift) in enumerate(draws):
        shares = [count / size for count in range(size)]
        shape = [-math.log(1.0 - share ** (1.0 + power)) for share in shares]
        shapes[f"g{number}"] = shape
        curves[f"g{number}"] = [
            10 ** (2 * scale - 2) * value * math.exp(drift * s) for value, s in zip(shape, shares, strict=True)
        ]
    return curves, shapes


def total(curves: Curves, counts: Mapping[str, int]) -> float:
    return sum([*curves[name], 10.0 * curves[name][-1] + 10.0][count] for name, count in counts.items())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
def test_an_eighth_of_the_cuts_is_enough(seed: int, target: float) -> None:
    """Beside all 15 levels of each group: much the same error for at least as much saved."""
    curves, shapes = like_layers(seed)
    scores, prices = ranked([64] * 8), {f"g{number}": 1.0 + number for number in range(8)}
    everywhere, shaped = Table(scores, curves, prices), Shaped(scores, curves, shapes, prices)
    full, cheap = (removed(scores, target, probe) for probe in (everywhere, shaped))
    assert len(everywhere.tried) == 8 * 15
    assert len(set(shaped.tried)) == len(shaped.tried) <= len(everywhere.tried) / 8 + 8
    saved = [sum(prices[name] * count for name, count in counts.items()) for counts in (full, cheap)]
    assert saved[1] >= target * 64 * sum(prices.values()) - 1e-6
    assert abs(saved[0] - saved[1]) <= max(prices.values())
    assert total(curves, cheap) <= 1.05 * total(curves, full)


@pytest.mark.parametrize("seed", range(4))
def test_at_the_deep_end_a_level_is_too_wide_a_step(seed: int) -> None:
    """Beside every count of every group: one cut of each tells as much, where all levels alone are far from it."""
    curves, shapes = like_layers(seed, groups=3, size=96)
    curves = {name: [3.0 * (1.0 + 0.1 * number) * each for each in shapes[name]] for number, name in enumerate(curves)}
    scores = ranked([96] * 3)
    shaped, levels, every = (Shaped(scores, curves, shapes) for _ in range(3))
    cheap = removed(scores, 0.93, shaped)
    best = removed(scores, 0.93, every, every_level=True, levels=96)
    coarse = removed(scores, 0.93, levels, every_level=True)
    assert len(shaped.tried) <= 6
    assert len(every.tried) == 3 * 95
    assert total(curves, cheap) <= 1.03 * total(curves, best)
    assert total(curves, coarse) > 1.03 * total(curves, best)


def test_a_curve_that_is_known_exactly_is_cut_as_by_all_levels() -> None:
    """Errors that are multiples of their shapes: one cut of each group is enough for the very same choice."""
    _, shapes = like_layers(4, groups=6, size=16)
    curves = {name: [(1.0 + number) * each for each in shape] for number, (name, shape) in enumerate(shapes.items())}
    scores = ranked([16] * 6)
    for target in (0.2, 0.5, 0.8):
        full, few = Shaped(scores, curves, shapes), Shaped(scores, curves, shapes)
        assert removed(scores, target, few) == removed(scores, target, full, every_level=True)
        assert len(few.tried) < len(full.tried) / 5


def test_a_shape_that_is_wrong_is_corrected_where_the_cut_falls() -> None:
    """Of one group the errors grow far slower than the shape says: it is cut on trial again where its cut falls."""
    curves, shapes = like_layers(0)
    curves["g0"] = [1e-4 * count for count in range(64)]
    scores = ranked([64] * 8)
    probe = Shaped(scores, curves, shapes)
    cheap, full = removed(scores, 0.5, probe), removed(scores, 0.5, Table(scores, curves))
    assert len([name for name, _ in probe.tried if name == "g0"]) > 1
    assert total(curves, cheap) <= 1.1 * total(curves, full)


def test_a_rough_look_tries_each_once_and_a_closer_one_goes_on_from_there() -> None:
    curves, shapes = like_layers(1)
    scores = ranked([64] * 8)
    probe = Shaped(scores, curves, shapes)
    probe.rough = True
    for target in (0.9, 0.2, 0.55):
        removed(scores, target, probe)
    assert sorted(name for name, _ in probe.tried) == sorted(scores)
    probe.rough = False
    removed(scores, 0.9, probe)
    more = len(probe.tried)
    assert more > len(scores)
    removed(scores, 0.9, probe)
    assert len(probe.tried) == more


def misleading(groups: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """(output errors, shapes) of groups whose cuts all fall far from where they are tried first."""
    shapes = {f"g{number}": [count**3 / 1e4 for count in range(64)] for number in range(groups)}
    return {
        name: [(1.0 + index) * each for each in shape] for index, (name, shape) in enumerate(shapes.items())
    }, shapes


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.02, 1.0), min_size=8, max_size=24), st.sampled_from([0.1, 0.2, 0.9]))
def test_no_more_than_an_eighth_of_all_passes(costs: list[float], target: float) -> None:
    """However many groups are to be cut where little is known; where all levels take few passes, six are free."""
    curves, shapes = misleading(len(costs))
    scores = ranked([64] * len(costs))
    probe = Shaped(scores, curves, shapes)
    probe.costs = dict(zip(scores, costs, strict=True))
    removed(scores, target, probe)
    passes = sum(probe.costs[name] for name, _ in probe.tried)
    first = sum(costs)
    assert passes <= max(15 * first / 8 - 1.0, 6.0, first) + 1e-9


def bending(seed: int, groups: int = 5) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """(output errors, shapes) of weights: the ratio of both grows by a factor of 50 towards the end of each curve."""
    curves, shapes = like_layers(seed, groups, size=160)
    bent = {
        name: [each * math.exp(4.0 * max(0.0, 2 * count / 160 - 1)) for count, each in enumerate(curve)]
        for name, curve in curves.items()
    }
    return bent, shapes


@pytest.mark.parametrize("target", [0.6, 0.8, 0.9])
def test_a_shape_that_tells_less_is_measured_at_more_counts(target: float) -> None:
    """As of weights: a quarter of the passes comes near to what every count tells, where an eighth is far from it."""
    worse: dict[float, list[float]] = {SensitivityProbe.near: [], Shaped.near: []}
    for seed in range(5):
        curves, shapes = bending(seed)
        scores = ranked([160] * 5)
        every = Shaped(scores, curves, shapes)
        best = total(curves, removed(scores, target, every, every_level=True, levels=160))
        for near, share in ((SensitivityProbe.near, SensitivityProbe.share), (Shaped.near, Shaped.share)):
            probe = Shaped(scores, curves, shapes)
            probe.near, probe.share = near, share
            worse[near].append(total(curves, removed(scores, target, probe)) / best)
            assert len(probe.tried) <= 5 * 15 * share
    assert geometric_mean(worse[SensitivityProbe.near]) <= 1.2
    assert geometric_mean(worse[Shaped.near]) >= 1.5


def test_where_most_is_at_stake_is_tried_first() -> None:
    """The group whose errors weigh most is cut on trial again, where the passes are not enough for all of them."""
    curves, shapes = misleading(12)
    scores = ranked([64] * 12)
    curves["g7"] = [30.0 * each for each in shapes["g7"]]
    probe = Shaped(scores, curves, shapes)
    probe.costs = dict.fromkeys(scores, 0.6) | {"g7": 1.0}
    removed(scores, 0.1, probe)
    again = [name for name, _ in probe.tried[12:]]
    assert "g7" in again
    assert 0 < len(again) < 12


def test_every_level_is_tried_where_that_is_asked_for() -> None:
    curves, shapes = like_layers(0)
    scores = ranked([64] * len(curves))
    few, all_, plain = Shaped(scores, curves, shapes), Shaped(scores, curves, shapes), Table(scores, curves)
    counts = removed(scores, 0.5, all_, every_level=True)
    assert counts == removed(scores, 0.5, plain)
    assert len(all_.tried) == len(plain.tried) == 15 * len(curves)
    removed(scores, 0.5, few)
    assert len(few.tried) * 5 < len(all_.tried)
    assert Divergence(every_level=True).tries(0.125) == 15
    assert Divergence().tries(0.125) == pytest.approx(1.5)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_where_a_shape_or_an_error_is_no_number_all_levels_are_tried(wrong: float) -> None:
    curves, shapes = like_layers(2, groups=2)
    scores = ranked([64] * 2)
    shapes["g0"][40] = wrong
    curves["g1"] = [*curves["g1"][:30], *[wrong] * 34]
    probe = Shaped(scores, curves, shapes)
    counts = removed(scores, 0.4, probe)
    assert len(probe.tried) == 30
    assert counts == removed(scores, 0.4, Table(scores, curves))


def test_a_shape_of_nothing_says_nothing() -> None:
    """All of it dead: the errors are measured, and it goes first."""
    curves, shapes = like_layers(3, groups=2)
    shapes["g0"], curves["g0"] = [0.0] * 64, [0.0] * 64
    scores = ranked([64] * 2)
    assert removed(scores, 0.4, Shaped(scores, curves, shapes))["g0"] >= 50


# Weights


def weight_pruner(module: nn.Module, allocation: str = "divergence") -> WeightPruner:
    given = batches(inputs_of("mlp", 60))
    masking = Masking({name: each for name, each in module.named_parameters() if each.ndim > 1})
    return WeightPruner(
        module,
        PruningSettings.model_validate({"amount": 0.5, "allocation": allocation}),
        masking,
        batches=lambda: given,
        loss=loss,
        validation_loss=lambda: 0.0,
        distance=divergence,
    )


def test_weights_too() -> None:
    """By the divergence of outputs with one tensor cut alone; meanwhile nothing else is cut."""
    module, other = make("mlp"), make("mlp")
    pruner, uniform = weight_pruner(module), weight_pruner(other, "uniform")
    inputs = inputs_of("mlp", 60)
    dense = module(inputs).detach()
    before = {name: weight.detach().clone() for name, weight in pruner.masking.weights.items()}
    pruner.prune(0.6)
    uniform.prune(0.6)
    zeroed, total = pruner.masking.counts
    assert zeroed == math.ceil(0.6 * total - 1e-9)
    for name, weight in pruner.masking.weights.items():
        assert torch.equal(weight, before[name] * pruner.masking.masks[name])
    assert divergence(dense, module(inputs).detach()) <= divergence(dense, other(inputs).detach())
    assert pruner.passes == 1 + len(pruner.sensitivity) <= 1 + 3 * len(pruner.masking.weights)
    name, share, error = pruner.sensitivity[1]
    alone = make("mlp")
    weight = alone.get_parameter(name)
    with torch.no_grad():
        weight[weight.abs() <= weight.abs().flatten().kthvalue(round(share * weight.numel())).values] = 0.0
    assert error == pytest.approx(divergence(dense, alone(inputs).detach()), rel=1e-4)
    pruner.prune(0.9)
    assert pruner.masking.counts[0] == math.ceil(0.9 * total - 1e-9)


def test_the_loss_of_nothing_is_measured_once_for_all_tensors() -> None:
    pruner = weight_pruner(make("mlp"), "sensitivity")
    pruner.prune(0.5)
    tensors, levels = len(pruner.masking.weights), 8
    assert pruner.passes == 1 + tensors * levels
    assert len(pruner.sensitivity) == tensors * (1 + levels)  # each curve begins with it all the same


def test_a_tensor_that_was_emptied_does_not_stop_the_next_round() -> None:
    own_pruner = weight_pruner(make("mlp"))
    name = next(iter(own_pruner.masking.weights))
    own_pruner.masking.set({name: torch.zeros_like(own_pruner.masking.masks[name])})
    own_pruner.prune(0.8)
    assert own_pruner.masking.counts[0] == math.ceil(0.8 * own_pruner.masking.counts[1] - 1e-9)
