"""Exported files run without modelopt, for other batch sizes; a .pt2 learns; what they hold is what they were told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.files.exported_files import Ran, checks
from modelopt_cli.models.files.exporting import ABOUT, export, exported_bytes
from modelopt_cli.models.graph.emitted import Emitted
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.ties import losing
from tests.support.waiting import PATIENCE

ALONE = """\
import sys
sys.modules["modelopt_cli"] = None  # whoever imports it fails
import torch
torch.manual_seed(0)
path, *shape = sys.argv[1:]
module = torch.export.load(path).module()
inputs = torch.randn(11, *map(int, shape))
targets = torch.arange(11) % 3
assert module(inputs).shape == (11, 3)
assert module(inputs[:1]).shape == (1, 3)
optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
losses = []
for _ in range(6):
    loss = torch.nn.functional.cross_entropy(module(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(float(loss))
print(losses)
assert losses[-1] < losses[0]
"""


def convolutional() -> nn.Module:
    maps = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class Attention(nn.Module):
    """Its result is reshaped as it comes out of the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(inputs.flatten(1, 2)).reshape(inputs.shape[0], 8, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return self.out(mixed.contiguous().view(inputs.shape[0], 8, 8).mean(1))


def slim_graph() -> nn.Module:
    """The graph of what is left of it, in its place."""
    module = convolutional().eval()
    network = Network(module, torch.randn(4, 1, 8, 8))
    network.held = losing(network.groups, 0.5)
    return Emitted(network.current())


@pytest.mark.slow
@pytest.mark.parametrize("make", [convolutional, slim_graph])
def test_a_program_runs_and_learns_where_modelopt_is_not(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    path = tmp_path / "m.pt2"
    assert export(make(), torch.randn(4, 1, 8, 8), path)
    command = [sys.executable, "-c", ALONE, str(path), "1", "8", "8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["m.pt2"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("make", [convolutional, slim_graph, Attention])
def test_what_is_read_back_computes_the_same(make: Callable[[], nn.Module], suffix: str) -> None:
    module = make().eval()
    content, dynamic = exported_bytes(module, torch.randn(4, 1, 8, 8), suffix)
    assert dynamic
    ran = Ran(content, suffix)
    assert ran.runtime.startswith("torch.export 2." if suffix == ".pt2" else "onnxruntime 1.")
    results = checks(module, ran, [torch.randn(size, 1, 8, 8) for size in (1, 7)])
    assert [check.batch_size for check in results] == [1, 7]
    assert max(check.error for check in results) < 1e-5
    other = checks(make().eval(), ran, [torch.randn(7, 1, 8, 8)])
    assert other[0].error > 1e-3, "another model's outputs are told apart"
    failed = checks(module, ran, [torch.randn(7, 2, 8, 8)])
    assert (failed[0].error, bool(failed[0].reason)) == (float("inf"), True)


@pytest.mark.slow
def test_onnx_without_its_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    content, _ = exported_bytes(module, torch.randn(4, 4), ".onnx")
    ran = Ran(content, ".onnx")
    assert ran.runtime.startswith("onnx.reference")
    assert max(check.error for check in checks(module, ran, [torch.randn(size, 4) for size in (1, 7)])) < 1e-5


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"{missing} is not installed; .*modelopt-cli\[onnx\]"):
        export(nn.Linear(4, 3), torch.randn(4, 4), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"ends in \.pt2 or \.onnx"):
        export(nn.Linear(4, 3), torch.randn(4, 4), tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_the_files_say_about_themselves(tmp_path: Path) -> None:
    import onnx

    about = {"label_names": ["ä", "b"]}
    example = torch.randn(4, 4)
    for name in ("m.pt2", "m.onnx"):
        export(nn.Linear(4, 3), example, tmp_path / name, about)
        content = (tmp_path / name).read_bytes()
        assert b"/site-packages/" not in content, "no folders of this machine"
        assert __file__.encode() not in content
    extra = {ABOUT: ""}
    torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    assert json.loads(extra[ABOUT]) == about
    proto = onnx.load(tmp_path / "m.onnx")
    assert {entry.key: json.loads(entry.value) for entry in proto.metadata_props} == {ABOUT: about}
    (inputs,), (outputs,) = proto.graph.input, proto.graph.output
    assert (inputs.name, outputs.name) == ("inputs", "outputs")
    for value, size in ((inputs, 4), (outputs, 3)):
        dims = value.type.tensor_type.shape.dim
        assert (dims[0].dim_param, dims[1].dim_value) == ("batch", size)


@pytest.mark.slow
def test_an_operator_that_onnx_has_not(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(inputs)

    with pytest.raises(UsageError, match=r"torch cannot write the model as ONNX: .*bessel_j0.*; write a \.pt2"):
        export(Odd(), torch.randn(4, 4), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_one_batch_size_only(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.reshape(4, 2, 2).sum(2) + torch.arange(4.0)[:, None]

    assert not export(Fixed(), torch.randn(4, 4), tmp_path / "m.pt2")
    module = torch.export.load(tmp_path / "m.pt2").module()
    assert module(torch.randn(4, 4)).shape == (4, 2)
