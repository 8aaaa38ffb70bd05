"""Quantized files against closed forms, numpy and the float module; layers that are left in float."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.work import listening
from modelopt_cli.quantization.quantizing import Quantized, quantize
from modelopt_cli.quantization.settings import QuantizationSettings
from tests.quantization.networks import Recurrent, Residual, Transformer, images, mlp, rows, steps, tokens

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (mlp, rows),
    "cnn": (Residual, images),
    "lstm": (Recurrent, steps),
    "transformer": (Transformer, tokens),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """The network in evaluation mode, its batch normalisation not trivial, and 256 inputs."""
    torch.manual_seed(0)
    build, inputs = NETWORKS[name]
    module, batch = build(), inputs(256)
    if name == "cnn":
        module.train()
        with torch.no_grad():
            module(batch)
    return module.eval(), batch


def quantized(module: nn.Module, batch: Tensor, judge: Any = None, **values: Any) -> Quantized:
    section = QuantizationSettings.model_validate(values)
    about = {"task": "classification", "label_names": ["a<b>", "é"]}
    return quantize(module, section, calibration=batch, example=batch[:4], about=about, judge=judge)


def error(module: nn.Module, other: nn.Module, batch: Tensor) -> float:
    """The largest difference, as a share of the largest output."""
    with torch.no_grad():
        expected = module(batch)
        return float((other(batch) - expected).abs().max() / expected.abs().max())


def weight_of(module: nn.Module, layer: str) -> np.ndarray:
    weight: np.ndarray = module.get_parameter(f"{layer}.weight").detach().numpy()
    return weight


def initializers(content: bytes) -> dict[str, np.ndarray]:
    graph = onnx.load_from_string(content).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["static", "dynamic"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_answers_nearly_as_the_module(name: str, method: str) -> None:
    module, batch = made(name)
    result = quantized(module, batch, method=method)
    assert result.suffix == ".onnx"
    assert error(module, result.module, batch) < 0.05
    for size in (1, 3):  # the batch is open
        assert result.module(batch[:size]).shape == module(batch[:size]).shape
    tensors = initializers(result.content)
    held = sum(layer["parameters"] for layer in result.layers if layer["precision"] == "int8")
    weights = [each for name, each in tensors.items() if name.endswith("_quantized") and each.dtype != np.int32]
    assert sum(each.nbytes for each in weights) == held > 0
    assert result.size_bytes == sum(each.nbytes for each in tensors.values())
    assert all(value.requires_grad for value in module.parameters()), "the module stays as it was"


@pytest.mark.slow
def test_weights_and_scales_are_those_of_the_closed_form() -> None:
    module, batch = made("mlp")
    assert isinstance(module, nn.Sequential)
    tensors = initializers(quantized(module, batch).content)
    for layer in ("0", "2"):
        weight = weight_of(module, layer)
        scale = np.abs(weight).max(1) / 127
        assert np.allclose(tensors[f"{layer}.weight_scale"], scale, rtol=1e-6)
        assert np.array_equal(tensors[f"{layer}.weight_quantized"], np.rint(weight / scale[:, None]).astype(np.int8))
        assert not tensors[f"{layer}.weight_zero_point"].any()


@pytest.mark.slow
def test_one_scale_for_a_whole_weight_and_seven_bits() -> None:
    module, batch = made("mlp")
    method = {"type": "static", "per_channel": False, "reduce_range": True}
    tensors = initializers(quantized(module, batch, method=method).content)
    weight = weight_of(module, "0")
    assert np.allclose(tensors["0.weight_scale"], np.abs(weight).max() / 64, rtol=1e-6)
    assert np.abs(tensors["0.weight_quantized"]).max() == 64


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(inputs=st.integers(1, 9), outputs=st.integers(1, 6), spread=st.floats(0.1, 30.0), seed=st.integers(0, 99))
def test_a_linear_layer_computes_what_numpy_does(inputs: int, outputs: int, spread: float, seed: int) -> None:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(inputs, outputs))
    batch = spread * torch.randn(40, inputs)
    result = quantized(module, batch, max_drop=None)
    weight, bias = (value.detach().numpy().astype(np.float64) for value in module[0].parameters())
    scale = np.abs(weight).max(1) / 127
    low, high = min(float(batch.min()), 0.0), max(float(batch.max()), 0.0)
    step = (high - low) / 255
    point = np.rint(-low / step)
    rounded = (np.clip(np.rint(batch.numpy() / step) + point, 0, 255) - point) * step
    whole = np.rint(bias / (step * scale)) * step * scale
    expected = rounded @ (np.rint(weight / scale[:, None]) * scale[:, None]).T + whole
    unit = step * np.abs(weight).max(1)  # inputs on the edge between two steps may go either way
    assert (np.abs(result.module(batch).numpy() - expected) <= 1.01 * unit + 1e-5 * spread).all()
    near = np.abs(result.module(batch).numpy() - expected) <= 1e-4 * np.abs(expected).max()
    assert near.mean() > 0.9


@pytest.mark.slow
def test_the_ranges_of_activations_are_those_of_the_calibration_samples() -> None:
    module, batch = made("mlp")
    tensors = initializers(quantized(module, batch, samples=64).content)
    seen = batch[:64]
    assert tensors["inputs_scale"] == pytest.approx((float(seen.max()) - float(seen.min())) / 255, rel=1e-5)
    wide = quantized(module, torch.cat([batch[:64], 100 * batch[64:]]), samples=64).content
    assert initializers(wide)["inputs_scale"] == tensors["inputs_scale"], "no more than that many are looked at"
    cut = quantized(module, batch, method={"type": "static", "calibration": "percentile", "percentile": 90.0}).content
    assert initializers(cut)["inputs_scale"] < tensors["inputs_scale"]


@pytest.mark.slow
def test_what_is_unsupported_is_named_and_left_in_float() -> None:
    module, batch = made("lstm")
    result = quantized(module, batch)
    assert [(each["layer"], each["operator"], each["precision"]) for each in result.layers] == [
        ("memory", "LSTM", "float"),
        ("head", "Gemm", "int8"),
    ]
    assert result.warnings == ["left in float: memory (ONNX Runtime's static quantization does not support LSTM)"]


@pytest.mark.slow
def test_a_model_without_a_layer_for_the_method_is_refused() -> None:
    with pytest.raises(UsageError, match=r"dynamic can quantize no layer of .*does not support Conv.*use an"):
        quantized(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()), images(16), method="dynamic")


@pytest.mark.slow
def test_layers_that_the_section_excludes_stay_in_float() -> None:
    module, batch = made("cnn")
    result = quantized(module, batch, exclude=["depth*", "head"])
    assert {each["layer"]: each["why"] for each in result.layers} == {
        "stem": "",
        "depthwise": "quantization.exclude",
        "grouped": "",
        "head": "quantization.exclude",
    }
    tensors = initializers(result.content)
    assert "depthwise.weight" in tensors
    assert "head.weight" in tensors
    assert "grouped.weight" not in tensors
    with pytest.raises(UsageError, match=r"no layer is called 'stam'. Did you mean 'stem'"):
        quantized(module, batch, exclude=["stam"])
    with pytest.raises(UsageError, match="leaves every layer in float"):
        quantized(module, batch, exclude=["*"])


class Sensitive:
    """A judge that loses so much for each layer that the file has in 8 bits."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.costs, self.calls = costs, 0

    def __call__(self, module: nn.Module) -> float:
        self.calls += 1
        if not isinstance(module, Running):
            return 1.0
        return 1.0 - sum(cost for name, cost in self.costs.items() if f"{name}.weight_quantized" in module.names)


class Running(nn.Module):
    """In place of what runs a file: knows the names of its tensors."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.names = set(initializers(content))


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running file knows the names of its tensors."""
    from modelopt_cli.quantization.onnx.quantizer import OnnxQuantizer

    monkeypatch.setattr(OnnxQuantizer, "running", lambda _, content: Running(content))


@pytest.mark.slow
@pytest.mark.usefixtures("telling")
def test_the_most_sensitive_layers_are_left_in_float_until_the_drop_is_met() -> None:
    module, batch = made("cnn")
    judge = Sensitive({"stem": 0.02, "depthwise": 0.10, "grouped": 0.001, "head": 0.05})
    counts: list[tuple[str, int, int | None]] = []
    with listening(lambda *each: counts.append(each)):
        result = quantized(module, batch, judge, max_drop=0.03)
    assert {each["layer"]: each["precision"] for each in result.layers} == {
        "stem": "int8",
        "depthwise": "float",
        "grouped": "int8",
        "head": "float",
    }
    assert {each["layer"]: round(each["drop"], 6) for each in result.layers} == judge.costs
    assert result.float_score == 1.0
    assert result.first_score == pytest.approx(1.0 - 0.171)
    assert result.score == pytest.approx(1.0 - 0.021)
    assert result.warnings == ["quantization.max_drop is 0.03, so 2 of 4 layers stay in float: depthwise, head"]
    assert judge.calls == 2 + 4 + 1  # in float, all at once, each alone, and the second of those that are left out
    assert ("layers on trial", 0, 4) in counts


@pytest.mark.slow
@pytest.mark.usefixtures("telling")
def test_no_search_where_the_drop_is_met_at_once_or_not_asked_for() -> None:
    module, batch = made("mlp")
    judge = Sensitive({"0": 0.004})
    assert all(each["drop"] is None for each in quantized(module, batch, judge).layers)
    assert judge.calls == 2
    judge = Sensitive({"0": 0.5})
    assert all(each["precision"] == "int8" for each in quantized(module, batch, judge, max_drop=None).layers)


@pytest.mark.slow
@pytest.mark.usefixtures("telling")
def test_neighbours_are_tried_together_where_there_are_many() -> None:
    module = nn.Sequential(*(nn.Linear(6, 6) for _ in range(7)))
    judge = Sensitive({"4": 0.3})
    result = quantized(module, rows(64), judge, tries=3)
    floats = [each["layer"] for each in result.layers if each["precision"] == "float"]
    assert "4" in floats
    assert 1 < len(floats) <= 3
    assert judge.calls == 2 + 3


@pytest.mark.slow
@pytest.mark.usefixtures("telling")
def test_every_layer_in_float_is_said() -> None:
    module, batch = made("mlp")
    result = quantized(module, batch, lambda each: math.nan if isinstance(each, Running) else 1.0, max_drop=0.1)
    assert all(each["precision"] == "float" for each in result.layers)
    assert any("no layer is quantized" in text for text in result.warnings)
    assert any("with every layer in float the file still loses" in text for text in result.warnings)


@pytest.mark.slow
def test_a_model_for_one_batch_size_is_quantized_and_run_in_such_batches() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.layer(inputs.reshape(4, 6))

    torch.manual_seed(0)
    module, batch = Fixed(), rows(30)
    result = quantized(module, batch)
    expected = module.layer(batch).detach()
    assert result.module(batch).shape == (30, 3)
    assert float((result.module(batch) - expected).abs().max() / expected.abs().max()) < 0.05


@pytest.mark.slow
def test_nothing_is_written_printed_or_logged(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    module, batch = made("cnn")
    for method in ("static", {"type": "static", "calibration": "entropy"}, "dynamic"):
        quantized(module, batch, method=method)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.slow
def test_sums_that_no_convolution_leads_to_stay_in_float() -> None:
    """In a transformer, shortcuts and biases; a sum of feature maps is computed in integers."""
    module, batch = made("transformer")
    graph = onnx.load_from_string(quantized(module, batch).content).graph
    tensors = {tensor.name for tensor in graph.initializer}
    assert "encoder.linear1.bias" in tensors
    assert not any("bias" in name and name.endswith("_quantized") and "linear1" in name for name in tensors)
    module, batch = made("cnn")
    graph = onnx.load_from_string(quantized(module, batch).content).graph
    back = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    [add] = [node for node in graph.node if node.op_type == "Add"]
    assert set(add.input) <= back
