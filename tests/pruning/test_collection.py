"""Collecting statistics: one pass, right means, the module left as it was; and what all importances promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.pruning.collection import collect
from modelopt_cli.pruning.importances import WeightImportance
from modelopt_cli.pruning.statistics import Statistics
from modelopt_cli.training.batches import Batch

NAMES = [
    name for name in FAMILIES["importances"].names() if issubclass(FAMILIES["importances"].get(name), WeightImportance)
]


def loss(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    return F.cross_entropy(outputs, targets)


def conv_net(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(4, 4, 3, **options), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def batches(shape: tuple[int, ...] = (4,), sizes: tuple[int, ...] = (8, 8, 1)) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    total = sum(sizes)
    inputs, targets = (
        torch.randn(total, *shape, generator=generator),
        torch.randint(0, 3, (total,), generator=generator),
    )
    parts = zip(inputs.split(list(sizes)), targets.split(list(sizes)), strict=True)
    return [Batch(x, y, None, torch.arange(len(x))) for x, y in parts]


def matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in module.named_parameters() if weight.ndim > 1}


def importance(name: str, **options: Any) -> WeightImportance:
    return FAMILIES["importances"].get(name).model_validate(options)  # type: ignore[return-value]


def contributions(name: str, module: nn.Module, given: list[Batch], **options: Any) -> dict[str, Tensor]:
    criterion, weights = importance(name, **options), matrices(module)
    found = collect(module, weights, criterion.needs, lambda: given, loss)
    if "movement" in criterion.needs:
        found = Statistics({"movement": {name: weight.detach().clone() for name, weight in weights.items()}})
    each = criterion.contributions(weights, found)
    return {name: each[name] for name in weights}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_every_importance_gives_finite_scores_and_leaves_the_module_as_it_was(name: str, kind: str) -> None:
    module, shape = (mlp(), (4,)) if kind == "mlp" else (conv_net(padding=1), (4, 6, 6))
    module.train()
    list(module.modules())[2].eval()  # a user's frozen layer
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [layer.training for layer in module.modules()]
    generator = torch.get_rng_state()
    found = contributions(name, module, batches(shape))
    for layer, weight in matrices(module).items():
        assert found[layer].shape == weight.shape
        assert found[layer].dtype == torch.float32
        assert bool(found[layer].isfinite().all())
        assert not found[layer].requires_grad
        assert float(found[layer].std()) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert [layer.training for layer in module.modules()] == modes
    assert all(bool((parameter.grad == 7.0).all()) for parameter in module.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(not layer._forward_pre_hooks for layer in module.modules())
    assert torch.equal(torch.get_rng_state(), generator)
    again = contributions(name, module, batches(shape))
    assert all(torch.equal(found[layer], again[layer]) for layer in found)


def test_one_forward_pass_gives_everything_that_the_inputs_and_the_gradient_tell() -> None:
    module, calls, given = mlp(), [], batches()
    module.register_forward_hook(lambda *_: calls.append(1))
    asked = []

    def ask() -> list[Batch]:
        asked.append(1)
        return given

    needs: Any = frozenset({"gradient", "input_norm", "input_mean", "gram"})
    collect(module, matrices(module), needs, ask, loss)
    assert len(calls) == len(given)
    assert len(asked) == 1
    collect(module, matrices(module), frozenset(), ask, loss)
    assert len(asked) == 1, "no data are drawn where none are needed"


@pytest.mark.parametrize("statistic", ["gradient", "squared_gradient", "hessian_gradient", "input_norm", "gram"])
def test_unequal_batches_weigh_by_their_samples(statistic: Any) -> None:
    module, needs = mlp(), frozenset({statistic})
    parts = collect(module, matrices(module), needs, lambda: batches(), loss)
    whole = collect(module, matrices(module), needs, lambda: batches(sizes=(17,)), loss)
    for name in matrices(module):
        torch.testing.assert_close(parts.get(statistic, name), whole.get(statistic, name), rtol=1e-4, atol=1e-7)


class Branching(nn.Module):
    """Control flow that depends on the data: vmap refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = mlp()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs if float(inputs.sum()) > -1e9 else -inputs)


def test_squared_gradients_of_a_module_that_vmap_refuses() -> None:
    plain, branching, needs = mlp(), Branching(), frozenset({"squared_gradient"})
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(branching)(torch.ones(2, 4))
    expected = collect(plain, matrices(plain), needs, batches, loss)  # type: ignore[arg-type]
    found = collect(branching, matrices(branching), needs, batches, loss)  # type: ignore[arg-type]
    for name in matrices(plain):
        torch.testing.assert_close(
            found.get("squared_gradient", f"inner.{name}"), expected.get("squared_gradient", name), rtol=1e-4, atol=1e-9
        )


def test_squared_gradients_in_pieces_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, needs = mlp(), frozenset({"squared_gradient"})
    expected = collect(module, matrices(module), needs, batches, loss)  # type: ignore[arg-type]
    monkeypatch.setattr("modelopt_cli.pruning.collection._PER_SAMPLE_NUMBERS", 80)
    found = collect(module, matrices(module), needs, batches, loss)  # type: ignore[arg-type]
    for name in matrices(module):
        torch.testing.assert_close(found.get("squared_gradient", name), expected.get("squared_gradient", name))


GEOMETRIES = [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2}, {"stride": (2, 1), "padding": (0, 2), "dilation": 2}]


@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
def test_inputs_of_a_convolution_are_its_patches(options: dict[str, Any]) -> None:
    """Against patches cut out one by one from the padded image."""
    module, given = nn.Sequential(nn.Conv2d(2, 3, 3, **options)), batches((2, 7, 7), (3, 2))
    conv: Any = module[0]
    needs: Any = frozenset({"input_norm", "input_mean", "gram"})
    found = collect(module, matrices(module), needs, lambda: given, loss)
    rows = []
    padded = F.pad(torch.cat([batch.inputs for batch in given]), (*[conv.padding[1]] * 2, *[conv.padding[0]] * 2))
    height, width = module(given[0].inputs).shape[2:]
    for image in padded:
        for i in range(height):
            for j in range(width):
                top, left = i * conv.stride[0], j * conv.stride[1]
                patch = image[:, top : top + 2 * conv.dilation[0] + 1, left : left + 2 * conv.dilation[1] + 1]
                rows.append(patch[:, :: conv.dilation[0], :: conv.dilation[1]].reshape(-1))
    patches = torch.stack(rows)  # (rows, 18)
    torch.testing.assert_close(
        patches @ conv.weight.flatten(1).T + conv.bias,
        module(torch.cat([batch.inputs for batch in given])).movedim(1, -1).flatten(0, 2),
    )
    mean = patches.mean(0).view(1, 2, 3, 3)
    torch.testing.assert_close(found.get("input_mean", "0.weight"), mean, rtol=1e-4, atol=1e-6)
    norm = patches.square().mean(0).sqrt().view(1, 2, 3, 3)
    torch.testing.assert_close(found.get("input_norm", "0.weight"), norm)
    gram = (patches.T @ patches / len(patches)).double()
    torch.testing.assert_close(found.get("gram", "0.weight"), gram, rtol=1e-4, atol=1e-6)


def test_a_doubled_channel_doubles_its_wanda_scores() -> None:
    module, given = nn.Sequential(nn.Conv1d(3, 2, 3, stride=2, padding=1)), batches((3, 9))
    doubled = [batch._replace(inputs=batch.inputs * torch.tensor([1.0, 2.0, 1.0])[:, None]) for batch in given]
    first, second = contributions("wanda", module, given), contributions("wanda", module, doubled)
    ratio = second["0.weight"] / first["0.weight"]
    torch.testing.assert_close(ratio[:, 1], torch.full_like(ratio[:, 1], 2.0))
    torch.testing.assert_close(ratio[:, ::2], torch.ones_like(ratio[:, ::2]))


@pytest.mark.parametrize("name", ["wanda", "obs", "sparsegpt"])
@pytest.mark.parametrize("options", [{"groups": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "circular"}])
def test_a_layer_whose_inputs_cannot_be_watched_is_named_with_a_remedy(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^0\.weight has no .*pruning\.exclude"):
        contributions(name, conv_net(**options), batches((4, 6, 6)))


def test_the_contributions_of_taylor_may_cancel_and_those_of_snip_may_not() -> None:
    assert bool((contributions("taylor", mlp(), batches())["0.weight"] < 0).any())
    assert bool((contributions("snip", mlp(), batches())["0.weight"] >= 0).all())


def test_a_layer_that_is_called_twice_counts_both_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(2.0 * inputs) + self.layer(inputs)

    module, given = Twice(), batches()
    found = collect(module, matrices(module), frozenset({"input_mean"}), lambda: given, loss)
    mean = 1.5 * torch.cat([batch.inputs for batch in given]).mean(0)
    torch.testing.assert_close(found.get("input_mean", "layer.weight"), mean[None])


def test_sample_weights_count_as_repeated_samples() -> None:
    module, found = mlp(), batches(sizes=(6,))[0]
    repeats = torch.tensor([1, 2, 1, 3, 1, 2])

    def weighted(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        each = F.cross_entropy(outputs, targets, reduction="none")
        return each.mean() if weights is None else (each * weights).sum() / weights.sum()

    split = [
        Batch(found.inputs[part], found.targets[part], repeats[part].float(), found.indices[part])
        for part in (slice(0, 2), slice(2, 6))
    ]
    places = torch.repeat_interleave(torch.arange(6), repeats)
    whole = [Batch(found.inputs[places], found.targets[places], None, places)]
    needs = frozenset({"gradient", "squared_gradient", "hessian_gradient"})
    one = collect(module, matrices(module), needs, lambda: split, weighted)  # type: ignore[arg-type]
    other = collect(module, matrices(module), needs, lambda: whole, weighted)  # type: ignore[arg-type]
    for statistic in needs:
        for name, tensor in one.values[statistic].items():  # type: ignore[index]
            torch.testing.assert_close(tensor, other.values[statistic][name])  # type: ignore[index]
