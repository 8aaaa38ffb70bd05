"""Exports that share torch's table of ONNX operators write what exports with tables of their own write."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra onnx)")

from modelopt_cli.models.files import onnx_operators
from modelopt_cli.models.files.exporting import exported_bytes


def networks() -> list[tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(0)
    image = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    return [(nn.Linear(3, 2), torch.zeros(2, 3)), (image, torch.zeros(2, 1, 8, 8))]


@pytest.mark.slow
def test_the_files_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = [exported_bytes(module, inputs, ".onnx")[0] for module, inputs in [*networks(), *networks()]]
    monkeypatch.setattr(onnx_operators, "_registry", lambda: None)
    own = [exported_bytes(module, inputs, ".onnx")[0] for module, inputs in networks()]
    assert shared == [*own, *own]


@pytest.mark.slow
def test_torch_has_its_own_way_back_afterwards() -> None:
    registry = onnx_operators._registry()
    assert registry is not None, "torch keeps its table elsewhere: exports are slower now"
    before = vars(registry)["from_torchlib"]
    with onnx_operators.read_once():
        assert registry.from_torchlib() is registry.from_torchlib()
    assert vars(registry)["from_torchlib"] is before
