"""Compensations: what each promises about the layer's outputs on the calibration inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.pruning.common.distances import divergence
from modelopt_cli.pruning.common.statistics import Statistics
from modelopt_cli.pruning.compensations import Compensated, WeightCompensation
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.weights.collection import collect
from modelopt_cli.pruning.weights.masking import Masking
from modelopt_cli.pruning.weights.pruner import WeightPruner
from modelopt_cli.training.batches import Batch

NAMES = [
    name
    for name in FAMILIES["compensations"].names()
    if issubclass(FAMILIES["compensations"].get(name), WeightCompensation)
]


def compensation(name: str, **options: Any) -> WeightCompensation:
    return FAMILIES["compensations"].get(name).model_validate(options)  # type: ignore[return-value]


def rows(count: int = 200) -> Tensor:
    """(count, 8) correlated inputs with means, float64."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    return torch.randn(count, 8, generator=generator, dtype=torch.float64) @ mixing + 0.5


def layer() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    keep = torch.rand(6, 8, generator=generator) < 0.5
    keep[0], keep[1] = False, True
    return weight, keep


def compensated(name: str, x: Tensor, weight: Tensor, keep: Tensor, **options: Any) -> Compensated:
    statistics = Statistics({"gram": {"w": x.T @ x / len(x)}, "input_mean": {"w": x.mean(0)[None]}})
    return compensation(name, **options).compensate("w", weight, keep, statistics)


def error(x: Tensor, weight: Tensor, changed: Compensated) -> float:
    outputs = x @ changed.weight.T + (0.0 if changed.bias is None else changed.bias)
    return float((outputs - x @ weight.T).square().mean())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_gone_is_exactly_0_and_nothing_changes_where_nothing_is_gone(name: str) -> None:
    x, (weight, keep) = rows(), layer()
    before = weight.clone()
    changed = compensated(name, x, weight, keep)
    assert torch.equal(weight, before), "the dense weight is left as it was"
    assert bool((changed.weight[~keep] == 0).all())
    assert changed.weight.shape == weight.shape
    assert changed.weight.dtype == weight.dtype
    torch.testing.assert_close(changed.weight[1], weight[1])
    whole = compensated(name, x, weight, torch.ones_like(keep))
    torch.testing.assert_close(whole.weight, weight)
    assert whole.bias is None or not bool(whole.bias.any())


def test_none_leaves_what_stays() -> None:
    weight, keep = layer()
    changed = compensated("none", rows(), weight, keep)
    assert torch.equal(changed.weight, weight * keep)
    assert changed.bias is None


def test_bias_keeps_the_mean_output() -> None:
    x, (weight, keep) = rows(), layer()
    changed = compensated("bias", x, weight, keep)
    assert changed.bias is not None
    torch.testing.assert_close((x @ changed.weight.T + changed.bias).mean(0), (x @ weight.T).mean(0))
    torch.testing.assert_close(changed.weight, weight * keep)


def test_least_squares_is_lstsq_and_no_change_of_it_is_better() -> None:
    x, (weight, keep) = rows(), layer()
    changed = compensated("least_squares", x, weight, keep, damping=1e-9)
    for row in range(1, 6):
        best = torch.linalg.lstsq(x[:, keep[row]], (x @ weight[row])[:, None]).solution[:, 0]
        torch.testing.assert_close(changed.weight[row, keep[row]], best, rtol=1e-4, atol=1e-6)
    least = error(x, weight, changed)
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        change = 1e-2 * torch.randn(6, 8, generator=generator, dtype=torch.float64) * keep
        assert error(x, weight, Compensated(changed.weight + change)) > least


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_errors_are_ordered_least_squares_sparsegpt_none(share: float) -> None:
    x, (weight, _) = rows(), layer()
    keep = torch.rand(6, 8, generator=torch.Generator().manual_seed(3)) > share
    least, sparse, nothing = (
        error(x, weight, compensated(name, x, weight, keep, **options))
        for name, options in (("least_squares", {"damping": 1e-6}), ("sparsegpt", {"damping": 1e-6}), ("none", {}))
    )
    assert least <= sparse * (1 + 1e-6)
    assert sparse < nothing


def test_sparsegpt_is_the_surgeons_update_input_by_input() -> None:
    """Naively: at input j, with all before it settled, w -= w_j / [A^-1]_jj A^-1_j, A the Hessian of j and later."""
    x, (weight, keep) = rows(), layer()
    hessian = x.T @ x / len(x)
    hessian = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(8)
    expected = weight.clone()
    for row in range(6):
        for j in range(8):
            if not keep[row, j]:
                inverse = torch.linalg.inv(hessian[j:, j:])
                expected[row, j:] -= expected[row, j] / inverse[0, 0] * inverse[0]
    changed = compensated("sparsegpt", x, weight, keep)
    torch.testing.assert_close(changed.weight, expected * keep)


@pytest.mark.parametrize("name", ["least_squares", "sparsegpt"])
def test_inputs_that_are_always_0_or_equal_do_no_harm(name: str) -> None:
    x, (weight, keep) = rows(), layer()
    x[:, 3], x[:, 5] = 0.0, x[:, 4]
    changed = compensated(name, x, weight, keep)
    assert bool(changed.weight.isfinite().all())
    assert error(x, weight, changed) < error(x, weight, compensated("none", x, weight, keep))


def loss(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return F.cross_entropy(outputs, targets)


def pruned(name: str, *, bias: bool = True) -> tuple[nn.Module, nn.Module, Tensor]:
    """A convolution and a linear layer before and after pruning by half, and the calibration inputs."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    dense = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    dense.load_state_dict(module.state_dict())
    inputs = torch.randn(90, 2, 8, 8) + 0.3
    given = [
        Batch(part, torch.zeros(len(part), dtype=torch.int64), None, torch.arange(len(part)))
        for part in inputs.split(40)
    ]
    masking = Masking({name: each for name, each in module.named_parameters() if each.ndim > 1})
    settings = PruningSettings.model_validate({"amount": 0.5, "compensation": name})
    WeightPruner(
        module,
        settings,
        masking,
        batches=lambda: given,
        loss=loss,
        validation_loss=lambda: 0.0,
        distance=divergence,
    ).prune(0.5)
    assert all(bool((weight[~masking.masks[name]] == 0).all()) for name, weight in masking.weights.items())
    return dense, module, inputs


def test_bias_keeps_the_mean_output_of_every_channel_of_a_convolution() -> None:
    dense, module, inputs = pruned("bias")
    mean = lambda layer: layer(inputs).mean((0, 2, 3))  # noqa: E731
    torch.testing.assert_close(mean(module[0]), mean(dense[0]))  # type: ignore[index]
    features = dense[:3](inputs)  # type: ignore[index]
    torch.testing.assert_close(module[3](features).mean(0), dense[3](features).mean(0))  # type: ignore[index]


def test_bias_of_a_layer_without_one_is_none() -> None:
    dense, module, _ = pruned("bias", bias=False)
    kept = module[0].weight != 0  # type: ignore[index]
    assert torch.equal(module[0].weight[kept], dense[0].weight[kept])  # type: ignore[index]


@pytest.mark.parametrize("name", ["least_squares", "sparsegpt"])
def test_a_pruned_network_with_its_weights_updated_is_nearer_to_the_dense_one(name: str) -> None:
    dense, module, inputs = pruned(name)
    _, plain, _ = pruned("none")
    distance = lambda net: float((net(inputs) - dense(inputs)).detach().square().mean())  # noqa: E731
    assert distance(module) < distance(plain)


def test_the_statistics_are_of_the_dense_model() -> None:
    dense, module, inputs = pruned("bias")
    statistics = collect(
        dense,
        {"3.weight": dense[3].weight},  # type: ignore[index]
        frozenset({"input_mean"}),
        lambda: [Batch(inputs, torch.zeros(90), None, torch.arange(90))],
        loss,
    )
    removed = (dense[3].weight - module[3].weight).detach()  # type: ignore[index]
    expected = dense[3].bias + removed @ statistics.get("input_mean", "3.weight")[0]  # type: ignore[index]
    torch.testing.assert_close(module[3].bias, expected)  # type: ignore[index]
