"""Fake quantization against its formula, against torch, and against the file that comes of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from modelopt_cli.models.graph.capture import capture
from modelopt_cli.quantization.fake import FakeQuantization, fake_quantized
from modelopt_cli.quantization.quantizing import quantize
from modelopt_cli.quantization.settings import QuantizationSettings
from tests.quantization.networks import Residual, Transformer, images, mlp, rows, tokens


def rounded_weight(weight: Tensor, axis: int, most: int = 127) -> Tensor:
    """round(w / s) s, s = max|w| / 127 over all but the axis."""
    others = [dim for dim in range(weight.dim()) if dim != axis]
    scale = weight.abs().amax(others, keepdim=True) / most
    return torch.round(weight / scale) * scale


def rounded_inputs(inputs: Tensor, low: float, high: float) -> Tensor:
    scale = (high - low) / 255
    point = round(-low / scale)
    return (torch.clamp(torch.round(inputs / scale) + point, 0, 255) - point) * scale


def test_a_linear_layer_computes_with_rounded_weights_and_inputs() -> None:
    torch.manual_seed(0)
    layer, batch = nn.Linear(7, 4), rows(50) @ torch.randn(6, 7)
    module = nn.Sequential(layer)
    plain = module(batch)
    fake = fake_quantized(module, QuantizationSettings(), batch)
    low, high = fake.ranges["0"]
    assert (float(low), float(high)) == (float(batch.min()), float(batch.max()))
    inputs = rounded_inputs(batch, float(low), float(high))
    expected = nn.functional.linear(inputs, rounded_weight(layer.weight, 0), layer.bias)
    assert torch.allclose(module.eval()(batch), expected, atol=1e-5)
    with fake.off():
        assert torch.equal(module(batch), plain)
    assert not torch.equal(module(batch), plain)
    fake.close()
    assert torch.equal(module(batch), plain)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_have_a_scale_for_each_output_channel(groups: int) -> None:
    torch.manual_seed(0)
    for layer, axis in ((nn.Conv2d(4, 6, 3, groups=groups), 0), (nn.ConvTranspose2d(4, 6, 3), 1)):
        module, batch = nn.Sequential(layer), torch.randn(8, 4, 5, 5)
        fake = fake_quantized(module, QuantizationSettings(), batch)
        made = fake.weight(layer.weight, axis)
        assert torch.allclose(made, rounded_weight(layer.weight.detach(), axis), atol=1e-6)
        low, high = (float(bound) for bound in fake.ranges["0"])
        function = nn.functional.conv2d if axis == 0 else nn.functional.conv_transpose2d
        expected = function(rounded_inputs(batch, low, high), made, layer.bias, groups=layer.groups)
        assert torch.allclose(module.eval()(batch), expected, atol=1e-5)


@given(bits=st.integers(2, 8), seed=st.integers(0, 99))
def test_zeros_stay_zeros_and_no_value_moves_more_than_half_a_step(bits: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 9, generator=generator) * (torch.rand(5, 9, generator=generator) > 0.5)
    weight[2] = 0.0
    fake = FakeQuantization(nn.Identity(), excludes=lambda _: False, bits=bits)
    made = fake.weight(weight, 0)
    step = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert torch.equal(made == 0.0, (weight.abs() <= step / 2) & (made == 0.0))
    assert not made[weight == 0.0].any()
    assert ((made - weight).abs() <= step / 2 + 1e-6).all()


def test_gradients_go_straight_through_but_not_where_values_are_cut_off() -> None:
    layer = nn.Linear(3, 2)
    module, batch = nn.Sequential(layer), torch.tensor([[0.5, -0.5, 1.1], [-1.0, 0.2, 0.9]])
    fake = fake_quantized(module, QuantizationSettings(), batch)
    module.eval()
    inputs = torch.tensor([[0.3, 5.0, -0.7]], requires_grad=True)
    module(inputs).sum().backward()
    assert inputs.grad is not None
    weight = rounded_weight(layer.weight.detach(), 0)
    assert torch.allclose(inputs.grad, torch.where(torch.tensor([True, False, True]), weight.sum(0), 0.0), atol=1e-6)
    expected = rounded_inputs(inputs.detach(), -1.0, 1.1).expand(2, 3)
    assert torch.allclose(layer.weight.grad, expected, atol=1e-6)  # type: ignore[arg-type]
    fake.close()


def test_ranges_move_with_batches_in_training_only() -> None:
    module, batch = nn.Sequential(nn.Linear(6, 3)), rows(64)
    fake = fake_quantized(module, QuantizationSettings(), batch)
    low, high = (float(bound) for bound in fake.ranges["0"])
    module.eval()(10 * batch)
    assert fake.state() == {"0": (low, high)}
    module.train()(10 * batch)
    assert fake.state()["0"] == pytest.approx((0.99 * low + 0.1 * low, 0.99 * high + 0.1 * high), rel=1e-5)
    other = FakeQuantization(nn.Sequential(nn.Linear(6, 3)), excludes=lambda _: False)
    other.load_state(fake.state())
    assert other.state() == fake.state()


def test_layers_are_called_as_in_the_table_and_excluded_by_it() -> None:
    torch.manual_seed(0)
    module, batch = Transformer().eval(), tokens(64)
    settings = QuantizationSettings.model_validate({"exclude": ["encoder.linear1"]})
    fake = fake_quantized(module, settings, batch)
    assert set(fake.ranges) == {"encoder.self_attn", "encoder.linear2", "head"}
    module.train()(batch).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_layer_that_is_called_again_has_a_range_for_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(10.0 * self.layer(inputs))

    fake = fake_quantized(Twice(), QuantizationSettings(), rows(32))
    assert list(fake.ranges) == ["layer", "layer#2"]


@pytest.mark.slow
def test_a_captured_graph_computes_the_same_as_its_module() -> None:
    torch.manual_seed(0)
    module, batch = Residual().eval(), images(64)
    graph = capture(module, batch[:4]).graph
    settings = QuantizationSettings()
    for each in (module, graph):
        fake_quantized(each, settings, batch)
    assert torch.allclose(module(batch), graph(batch), atol=1e-5)


@pytest.mark.slow
def test_it_foresees_what_the_file_answers() -> None:
    """Batch normalisation included: a scale for each channel rounds folded weights to the same integers."""
    for build, inputs, share in ((mlp, rows, 0.3), (Residual, images, 0.8)):  # sums of shortcuts are not foreseen
        torch.manual_seed(0)
        module, batch = build(), inputs(256)
        module.train()(batch)
        module.eval()
        settings = QuantizationSettings.model_validate({"max_drop": None})
        made = quantize(module, settings, calibration=batch, example=batch[:4], about={}, judge=None).module(batch)
        with torch.no_grad():
            plain = module(batch)
            fake_quantized(module, settings, batch)
            foreseen = module(batch)
        assert (made - foreseen).abs().mean() < share * (made - plain).abs().mean()
