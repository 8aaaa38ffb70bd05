"""The optimal brain surgeon's order of units, against greedy search that solves every least-squares problem anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.common.elimination import eliminated
from modelopt_cli.pruning.common.units import Consumer, Units
from modelopt_cli.pruning.importances.obs import Obs
from tests.support.unit_cases import batches, inputs_of, network_of, pruner


def units(seed: int, size: int = 5, layers: tuple[tuple[int, int], ...] = ((3, 1),)) -> Units:
    """`layers`: of each consumer its outputs, and the columns of each unit; it takes two inputs of others, too."""
    generator = torch.Generator().manual_seed(seed)
    consumers = []
    for out, width in layers:
        count = size * width + 2
        mixing = torch.randn(count, count, generator=generator, dtype=torch.float64)
        x = torch.randn(4 * count, count, generator=generator, dtype=torch.float64) @ mixing + 0.5
        columns = torch.randperm(count, generator=generator)[: size * width].view(size, width)
        weight = torch.randn(out, count, generator=generator, dtype=torch.float64)
        consumers.append(Consumer(weight, x.T @ x / len(x), columns))
    return Units("layer", size, [], [], [], consumers=consumers)


def lost(consumer: Consumer, removed: list[int], damping: float) -> float:
    """Half of min (W' - W) H (W' - W)^T over W' without these units' columns, by least squares."""
    gram = consumer.gram
    hessian = gram + damping * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    factor = torch.linalg.cholesky(hessian).T
    stays = torch.ones(len(gram), dtype=torch.bool)
    stays[consumer.columns[removed].flatten()] = False
    target = factor @ consumer.matrix.double().T
    fit = torch.linalg.lstsq(factor[:, stays], target).solution
    return 0.5 * float((target - factor[:, stays] @ fit).square().sum())


def greedy(given: Units, damping: float) -> tuple[list[int], list[float]]:
    """(order, what each adds to the loss when its turn comes), all but the last."""
    removed: list[int] = []
    costs = []
    while len(removed) < given.size - 1:
        now = sum(lost(consumer, removed, damping) for consumer in given.consumers)
        rises = {
            unit: sum(lost(consumer, [*removed, unit], damping) for consumer in given.consumers) - now
            for unit in range(given.size)
            if unit not in removed
        }
        best = min(rises, key=rises.__getitem__)
        removed.append(best)
        costs.append(rises[best])
    return removed, costs


def order_of(scores: Tensor) -> list[int]:
    return scores.argsort(stable=True).tolist()


LAYERS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3).map(tuple)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 6), layers=LAYERS, damping=st.sampled_from([1e-4, 0.01, 0.3]))
def test_the_order_and_the_costs_are_those_of_greedy_search(
    seed: int, size: int, layers: tuple[tuple[int, int], ...], damping: float
) -> None:
    case = units(seed, size, layers)
    scores = eliminated(case, damping)
    order, costs = greedy(case, damping)
    monotone = torch.tensor(costs, dtype=torch.float64).cummax(0).values
    torch.testing.assert_close(scores[order], monotone, rtol=1e-6, atol=1e-9)
    last = ({*range(size)} - {*order}).pop()
    assert float(scores[last]) > float(monotone[-1])
    if bool((monotone.diff() > 1e-9).all()):  # no ties, so that scores tell the order
        assert order_of(scores) == [*order, last]


def test_the_order_is_not_that_of_the_first_costs() -> None:
    """Negative control: without the updates of what stays another order comes out, so greedy search was tested."""
    differ = 0
    for seed in range(20):
        case = units(seed, 6)
        first = torch.tensor([lost(case.consumers[0], [unit], 0.01) for unit in range(6)])
        differ += order_of(first)[:-1] != greedy(case, 0.01)[0]
    assert differ > 10


def test_all_consumers_count() -> None:
    case = units(3, 6, ((3, 1), (4, 2)))
    both = eliminated(case, 0.01)
    each = [eliminated(replace(case, consumers=[consumer]), 0.01) for consumer in case.consumers]
    assert order_of(both) not in [order_of(one) for one in each] or not torch.allclose(each[0], each[1])
    assert all(not torch.allclose(both, one) for one in each)


def test_a_unit_that_is_worth_nothing_goes_first_and_a_copy_costs_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    x[:, 4] = x[:, 1]
    weight = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    weight[:, 2] = 0.0
    consumer = Consumer(weight, x.T @ x / 200, torch.arange(5)[:, None])
    scores = eliminated(Units("layer", 5, [], [], [], consumers=[consumer]), 1e-8)
    assert order_of(scores)[0] == 2
    assert set(order_of(scores)[1:2]) <= {1, 4}
    assert float(scores.sort().values[1]) < 1e-5 * float(scores.sort().values[2])


@pytest.mark.parametrize("size", [1, 2, 40])
def test_scores_are_finite_and_the_last_one_is_above_all(size: int) -> None:
    scores = eliminated(units(1, size), 0.01)
    assert scores.shape == (size,)
    assert bool(scores.isfinite().all())
    assert int((scores == scores.max()).sum()) == 1


def test_what_takes_the_units_must_be_known() -> None:
    with pytest.raises(UsageError, match=r"takes the units of lstm.*pruning.exclude.*l2"):
        Obs().scores(Units("lstm", 3, [], [], []))


def test_through_the_network_the_consumers_are_the_layers_that_take_the_units() -> None:
    """Of the first layer of a perceptron: the second one, with what the ReLU gives."""
    network = network_of("mlp")
    inputs = inputs_of("mlp", 50)
    unit_pruner = pruner(network, batches(inputs, (30, 20)), importance={"type": "obs", "damping": 0.05}, amount=0.5)
    weight, bias = (network.tensor(f"0.{name}").detach() for name in ("weight", "bias"))
    hidden = torch.relu(inputs @ weight.T + bias).double()
    consumer = Consumer(network.tensor("2.weight").detach(), hidden.T @ hidden / 50, torch.arange(12)[:, None])
    expected = Units("0", 12, [], [], [], consumers=[consumer])
    scores = unit_pruner.scores(batches(inputs, (30, 20)))["0"]
    torch.testing.assert_close(scores, eliminated(expected, 0.05), rtol=1e-4, atol=1e-7)
    order, _ = greedy(expected, 0.05)
    assert order_of(scores)[:-1] == order
