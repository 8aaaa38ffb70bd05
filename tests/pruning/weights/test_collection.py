"""Collecting statistics: one pass, right means, the module left as it was; and what all importances promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.pruning.common.statistics import Statistics
from modelopt_cli.pruning.importances import WeightImportance
from modelopt_cli.pruning.weights.collection import collect
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
    statistics = collect(module, weights, criterion.needs, lambda: given, loss)
    if "movement" in criterion.needs:
        statistics = Statistics({"movement": {name: weight.detach().clone() for name, weight in weights.items()}})
    each = criterion.contributions(weights, statistics)
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
    scores = contributions(name, module, batches(shape))
    for layer, weight in matrices(module).items():
        assert scores[layer].shape == weight.shape
        assert scores[layer].dtype == torch.float32
        assert bool(scores[layer].isfinite().all())
        assert not scores[layer].requires_grad
        assert float(scores[layer].std()) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert [layer.training for layer in module.modules()] == modes
    assert all(parameter.grad is not None and bool((parameter.grad == 7.0).all()) for parameter in module.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(not layer._forward_pre_hooks for layer in module.modules())
    assert torch.equal(torch.get_rng_state(), generator)
    again = contributions(name, module, batches(shape))
    assert all(torch.equal(scores[layer], again[layer]) for layer in scores)


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
    statistics = collect(branching, matrices(branching), needs, batches, loss)  # type: ignore[arg-type]
    for name in matrices(plain):
        torch.testing.assert_close(
            statistics.get("squared_gradient", f"inner.{name}"),
            expected.get("squared_gradient", name),
            rtol=1e-4,
            atol=1e-9,
        )


def test_squared_gradients_in_pieces_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, needs = mlp(), frozenset({"squared_gradient"})
    expected = collect(module, matrices(module), needs, batches, loss)  # type: ignore[arg-type]
    monkeypatch.setattr("modelopt_cli.pruning.weights.collection._PER_SAMPLE_NUMBERS", 80)
    statistics = collect(module, matrices(module), needs, batches, loss)  # type: ignore[arg-type]
    for name in matrices(module):
        torch.testing.assert_close(statistics.get("squared_gradient", name), expected.get("squared_gradient", name))


GEOMETRIES = [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2}, {"stride": (2, 1), "padding": (0, 2), "dilation": 2}]


@pytest.mark.parametrize("options", GEOMETRIES, ids=str)
def test_inputs_of_a_convolution_are_its_patches(options: dict[str, Any]) -> None:
    """Against patches cut out one by one from the padded image."""
    module, given = nn.Sequential(nn.Conv2d(2, 3, 3, **options)), batches((2, 7, 7), (3, 2))
    conv: Any = module[0]
    needs: Any = frozenset({"input_norm", "input_mean", "gram"})
    statistics = collect(module, matrices(module), needs, lambda: given, loss)
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
    torch.testing.assert_close(statistics.get("input_mean", "0.weight"), mean, rtol=1e-4, atol=1e-6)
    norm = patches.square().mean(0).sqrt().view(1, 2, 3, 3)
    torch.testing.assert_close(statistics.get("input_norm", "0.weight"), norm)
    gram = (patches.T @ patches / len(patches)).double()
    torch.testing.assert_close(statistics.get("gram", "0.weight"), gram, rtol=1e-4, atol=1e-6)


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
    with pytest.raises(UsageError, match=r"needed: 0\.weight \(no linear .*pruning\.exclude"):
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
    statistics = collect(module, matrices(module), frozenset({"input_mean"}), lambda: given, loss)
    mean = 1.5 * torch.cat([batch.inputs for batch in given]).mean(0)
    torch.testing.assert_close(statistics.get("input_mean", "layer.weight"), mean[None])


def test_sample_weights_count_as_repeated_samples() -> None:
    module, batch = mlp(), batches(sizes=(6,))[0]
    repeats = torch.tensor([1, 2, 1, 3, 1, 2])

    def weighted(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        each = F.cross_entropy(outputs, targets, reduction="none")
        return each.mean() if weights is None else (each * weights).sum() / weights.sum()

    split = [
        Batch(batch.inputs[part], batch.targets[part], repeats[part].float(), batch.indices[part])
        for part in (slice(0, 2), slice(2, 6))
    ]
    places = torch.repeat_interleave(torch.arange(6), repeats)
    whole = [Batch(batch.inputs[places], batch.targets[places], None, places)]
    needs = frozenset({"gradient", "squared_gradient", "hessian_gradient"})
    one = collect(module, matrices(module), needs, lambda: split, weighted)  # type: ignore[arg-type]
    other = collect(module, matrices(module), needs, lambda: whole, weighted)  # type: ignore[arg-type]
    for statistic in needs:
        for name, tensor in one.values[statistic].items():  # type: ignore[index]
            torch.testing.assert_close(tensor, other.values[statistic][name])  # type: ignore[index]


class SelfAttention(nn.Module):
    """torch's own attention, whose projections are no layers that are called."""

    def __init__(self, cross: bool = False, own_sizes: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = {"kdim": 6, "vdim": 5} if own_sizes else {}
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **sizes)
        self.keys, self.values, self.cross, self.own_sizes = nn.Linear(4, 6), nn.Linear(4, 5), cross, own_sizes
        self.last = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        others = (self.keys(inputs), self.values(inputs)) if self.own_sizes else (inputs, inputs.clone())
        key, value = others if self.cross or self.own_sizes else (inputs, inputs)
        return self.last(self.attention(inputs, key, value)[0].mean(1))


def test_fused_projections_of_attention_are_watched() -> None:
    module, given = SelfAttention(), batches((7, 4), (5, 3))
    weights = {
        name: each for name, each in module.named_parameters() if name.endswith("proj_weight") or "out_proj.w" in name
    }
    statistics = collect(module, weights, frozenset({"gram", "input_mean"}), lambda: given, loss)
    rows = torch.cat([batch.inputs for batch in given]).flatten(0, 1)
    gram = statistics.get("gram", "attention.in_proj_weight")
    assert torch.allclose(gram, (rows.T @ rows / len(rows)).double(), atol=1e-6)
    # What the output projection takes in, from what it gives: y = W x + b with a square W.
    outputs = torch.cat([module.attention(*[batch.inputs] * 3)[0] for batch in given]).flatten(0, 1)
    projection = module.attention.out_proj
    mixed = torch.linalg.solve(projection.weight, (outputs - projection.bias).T).T.detach()
    assert torch.allclose(statistics.get("input_mean", "attention.out_proj.weight").flatten(), mixed.mean(0), atol=1e-5)
    assert torch.backends.mha.get_fastpath_enabled(), "put back"
    assert type(module.attention.out_proj) is type(projection)


def test_projections_of_their_own_size_are_watched() -> None:
    module = SelfAttention(own_sizes=True)
    weights = {name: each for name, each in module.named_parameters() if each.ndim > 1}
    statistics = collect(module, weights, frozenset({"input_norm"}), lambda: batches((7, 4)), loss)
    assert {name: tuple(statistics.get("input_norm", name).shape) for name in weights} == {
        name: (1, weight.shape[1]) for name, weight in weights.items()
    }


def test_attention_over_different_inputs_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match=r"attention\.in_proj_weight \(its attention projects different"):
        contributions("wanda", SelfAttention(cross=True), batches((7, 4)))


class Functional(nn.Module):
    """A layer whose weight its module's own code uses, one that is never called, and a matrix that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.free = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4, 4))
        self.dead, self.tired = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs @ self.free, self.weight)


def test_every_weight_without_inputs_is_named_at_once_with_its_reason() -> None:
    with pytest.raises(UsageError) as caught:
        contributions("wanda", Functional(), batches())
    text = str(caught.value)
    assert "dead.weight, tired.weight (its layer was never called on the calibration samples)" in text
    assert "free (no linear layer or ungrouped convolution takes it" in text
    assert "leave them out with pruning.exclude" in text


def test_a_weight_that_a_modules_own_code_uses_is_watched() -> None:
    module, given = Functional(), batches()
    statistics = collect(module, {"weight": module.weight}, frozenset({"input_mean"}), lambda: given, loss)
    rows = torch.cat([batch.inputs for batch in given]) @ module.free
    assert torch.allclose(statistics.get("input_mean", "weight").flatten(), rows.mean(0), atol=1e-6)


def test_second_derivatives_go_through_fused_attention() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.project, self.last = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            query, key, value = self.project(inputs).chunk(3, -1)
            mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
            return self.last(mixed.mean(1))

    module = Fused()
    weights, given = matrices(module), batches((7, 4), (6,))
    statistics = collect(module, weights, frozenset({"gradient", "hessian_gradient"}), lambda: given, loss)
    # H g by differences of gradients: (grad(w + e g) - grad(w - e g)) / 2e
    step, shifted = 1e-3, []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for each, weight in weights.items():
                weight.add_(statistics.get("gradient", each), alpha=sign * step)
        shifted.append(collect(module, weights, frozenset({"gradient"}), lambda: given, loss))
        with torch.no_grad():
            for each, weight in weights.items():
                weight.sub_(statistics.get("gradient", each), alpha=sign * step)
    for each in weights:
        numeric = (shifted[0].get("gradient", each) - shifted[1].get("gradient", each)) / (2 * step)
        assert torch.allclose(statistics.get("hessian_gradient", each), numeric, atol=2e-3)
