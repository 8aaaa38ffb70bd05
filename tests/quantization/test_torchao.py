"""torchao's int8: closed forms, files that load again, what is left in float, versions that lack it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modelopt_cli.core.errors import MissingExtraError, UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.quantization.quantizing import Quantized, quantize
from modelopt_cli.quantization.settings import QuantizationSettings
from tests.quantization.networks import Recurrent, Residual, Transformer, images, mlp, rows, steps, tokens

torchao = pytest.importorskip("torchao", reason="torchao is not installed")
METHODS = ("weight_only", "dynamic_torch")


def quantized(module: nn.Module, batch: torch.Tensor, **values: Any) -> Quantized:
    section = QuantizationSettings.model_validate({"max_drop": None, **values})
    return quantize(module, section, calibration=batch, example=batch[:4], about={"task": "x"}, judge=None)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("build", "inputs"), [(mlp, rows), (Residual, images), (Recurrent, steps), (Transformer, tokens)]
)
def test_the_file_loads_again_and_answers_nearly_as_the_module(build: Any, inputs: Any, method: str) -> None:
    torch.manual_seed(0)
    module, batch = build().eval(), inputs(50)
    result = quantized(module, batch, method=method)
    assert result.suffix == ".pt2"
    with torch.no_grad():
        expected = module(batch)
        assert float((result.module(batch) - expected).abs().max() / expected.abs().max()) < 0.05
        again = torch.export.load(io.BytesIO(result.content)).module()
        assert torch.equal(again(batch[:7]), result.module(batch[:7]))
    integers = [layer for layer in result.layers if layer["precision"] == "int8"]
    assert {layer["operator"] for layer in integers} == {"Linear"}
    held = sum(layer["parameters"] for layer in integers)
    assert result.size_bytes < sum(4 * value.numel() for value in module.state_dict().values()) - 2 * held
    assert all(type(value) is nn.Parameter for value in module.parameters()), "the module stays as it was"


@pytest.mark.slow
def test_weights_are_those_of_the_closed_form() -> None:
    torch.manual_seed(0)
    module = mlp().eval()
    content = quantized(module, rows(20), method="weight_only").content
    state = torch.export.load(io.BytesIO(content)).state_dict
    weight = module.get_parameter("0.weight").detach()
    [integers] = [value for value in state.values() if value.dtype == torch.int8 and value.shape == weight.shape]
    [scales] = [value for name, value in state.items() if value.shape == (32, 1) and value.dtype == torch.float32]
    assert torch.allclose(scales.flatten().float(), weight.abs().amax(1) / 127.5, rtol=0.01)
    expected = weight / scales
    assert ((integers - expected).abs() <= 0.5 + 1e-4).all(), "rounded to the nearest"
    assert integers.int().abs().amax(1).min() >= 127


@pytest.mark.slow
def test_the_file_of_weight_only_needs_torch_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, batch = mlp().eval(), rows(5)
    path = tmp_path / "model.pt2"
    result = quantized(module, batch, method="weight_only")
    path.write_bytes(result.content)
    code = (
        "import sys, json; sys.modules['torchao'] = None\n"
        "import torch\n"
        f"program = torch.export.load({str(path)!r}).module()\n"
        f"print(json.dumps(program(torch.tensor({batch.tolist()})).tolist()))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert torch.allclose(torch.tensor(json.loads(done.stdout)), result.module(batch), atol=1e-6)


@pytest.mark.slow
def test_what_torchao_does_not_reach_is_named() -> None:
    torch.manual_seed(0)
    result = quantized(Transformer().eval(), tokens(20), method="weight_only", exclude=["head"])
    assert {each["layer"]: each["precision"] for each in result.layers} == {
        "embedding": "float",
        "encoder.self_attn": "float",
        "encoder.self_attn.out_proj": "float",
        "encoder.linear1": "int8",
        "encoder.linear2": "int8",
        "head": "float",
    }
    assert any("no Embedding" in text for text in result.warnings)
    assert any("does not reach into torch's attention" in text for text in result.warnings)
    with pytest.raises(UsageError, match="can quantize no layer of this model"):
        quantized(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()), images(4), method="weight_only")


@pytest.mark.parametrize("name", METHODS)
def test_a_version_without_the_method_and_no_torchao_are_told_apart(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = FAMILIES["quantizations"].get(name)()
    method.check()  # type: ignore[attr-defined]
    import torchao.quantization as package

    with monkeypatch.context() as patch:
        patch.delattr(package, "Int8WeightOnlyConfig")
        patch.delattr(package, "Int8DynamicActivationInt8WeightConfig")
        with pytest.raises(UsageError, match=r"torchao \d.* has no Int8.*install a newer one"):
            method.check()  # type: ignore[attr-defined]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"modelopt-cli\[torchao\]"):
        method.check()  # type: ignore[attr-defined]


def test_global_settings_of_torch_stay_as_they_are() -> None:
    before = torch.get_float32_matmul_precision()
    FAMILIES["quantizations"].get("weight_only")().check()  # type: ignore[attr-defined]
    assert torch.get_float32_matmul_precision() == before
