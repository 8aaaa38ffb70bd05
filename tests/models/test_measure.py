"""What a model costs: MACs against closed forms, and what is put back after counting and timing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from modelopt_cli.models import measure
from modelopt_cli.models.architectures import Shapes
from modelopt_cli.models.architectures.cifar_resnet import CifarResnet
from modelopt_cli.models.architectures.transformer import Transformer
from modelopt_cli.models.latency import latency

CIFAR = Shapes((3, 32, 32), 10, "classification")


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Linear(7, 5), (1, 7), 7 * 5),
        (nn.Linear(7, 5), (3, 4, 7), 3 * 4 * 7 * 5),
        (nn.Conv1d(4, 6, 3), (1, 4, 10), 8 * 6 * 4 * 3),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 9, 9), 5 * 5 * 8 * 3 * 9),
        (nn.Conv2d(4, 8, 3, groups=2, padding=1), (1, 4, 6, 6), 36 * 8 * (4 // 2) * 9),
        (nn.Conv2d(6, 6, (1, 5), groups=6), (2, 6, 4, 8), 2 * 4 * 4 * 6 * 5),
        (nn.ConvTranspose2d(4, 8, 3, stride=2), (1, 4, 6, 6), 36 * 4 * 8 * 9),
        (nn.LSTM(4, 8, batch_first=True), (1, 5, 4), 5 * 4 * 8 * (4 + 8)),
        (nn.GRU(4, 8, batch_first=True), (1, 5, 4), 5 * 3 * 8 * (4 + 8)),
        (nn.BatchNorm2d(3), (2, 3, 4, 4), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_macs_are_those_of_the_closed_form(module: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    assert measure.macs(module, torch.randn(shape)) == {"": expected}


def test_macs_of_attention_do_not_hide_in_fused_kernels() -> None:
    width, length, feedforward = 16, 7, 32
    layer = nn.TransformerEncoderLayer(width, 4, feedforward, batch_first=True, norm_first=True)
    fast = torch.backends.mha.get_fastpath_enabled()
    attention = 4 * length * width**2 + 2 * length**2 * width  # projections; scores and weighted sum
    linear = length * width * feedforward
    assert measure.macs(layer, torch.randn(1, length, width)) == {
        "": attention + 2 * linear,
        "self_attn": attention,
        "linear1": linear,
        "linear2": linear,
    }
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.backends.mkldnn.enabled


def test_macs_of_the_models_add_up() -> None:
    counts = measure.macs(CifarResnet().build(CIFAR, 0), torch.randn(1, 3, 32, 32))
    stage = 9 * 16 * 16 * 32 * 32  # a 3x3 convolution within any stage; the first of stages 2 and 3 has half of it
    assert counts["conv1"] == 27 * 16 * 32 * 32
    assert counts["layer2.0.conv1"] == stage // 2
    assert counts[""] == counts["conv1"] + 16 * stage + 2 * stage // 2 + 64 * 10 == 40_551_040
    assert sum(macs for name, macs in counts.items() if name) == counts[""]
    tokens = Shapes((12,), 3, "classification", tokens=50)
    module = Transformer(width=16, depth=2, heads=2, feedforward=4).build(tokens, 0)
    block = 12 * 16 * 16 * (4 + 8) + 2 * 12 * 12 * 16
    assert measure.macs(module, measure.example(tokens, 1))[""] == 2 * block + 16 * 3


def test_what_a_module_computes_itself_is_its_own() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.vector = nn.Linear(4, 4), nn.Parameter(torch.ones(4))
            self.again = self.first

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            hidden = self.again(self.first(inputs))  # (B, 4)
            return (hidden @ hidden.T) @ (hidden @ self.vector)

    assert measure.macs(Tied(), torch.randn(3, 4)) == {"": 2 * 48 + 36 + 12 + 9, "first": 2 * 48}


def test_weights_that_are_computed_from_others_are_counted_with_what_computes_them() -> None:
    module = nn.Sequential(weight_norm(nn.Linear(4, 6)), spectral_norm(nn.Linear(6, 2)))
    norm = 6 * 2 + 2  # u^T W v
    assert measure.macs(module, torch.randn(3, 4)) == {
        "": 3 * (4 * 6 + 6 * 2) + norm,
        "0": 3 * 4 * 6,
        "1": 3 * 6 * 2,
        "1.parametrizations.weight.0": norm,
    }
    assert latency({"it": module}, torch.randn(3, 4), (1,), runs=3, seconds=0.0)[0].median > 0


def test_counting_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    measure.macs(module, torch.randn(8, 4))
    latency({"it": module}, torch.randn(8, 4), runs=2, seconds=0.0)
    assert [part.training for part in module.modules()] == [True, True, False, True]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    module(torch.randn(8, 4)).sum().backward()


def test_threads_and_modes_come_back_after_a_failure() -> None:
    class Failing(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    module, threads = Failing(), torch.get_num_threads()
    for call in (
        lambda: latency({"it": module}, torch.ones(1), threads=threads + 1),
        lambda: measure.macs(module, torch.ones(1)),
    ):
        with pytest.raises(RuntimeError, match="no"):
            call()
        assert torch.get_num_threads() == threads
        assert module.training
        assert not torch.is_inference_mode_enabled()
        assert torch.backends.mkldnn.enabled
        assert not module._forward_pre_hooks


def test_examples_have_the_model_s_shape_and_dtype() -> None:
    images = measure.example(CIFAR, 5)
    assert (images.shape, images.dtype) == ((5, 3, 32, 32), torch.float32)
    assert torch.equal(images, measure.example(CIFAR, 5))
    tokens = measure.example(Shapes((12,), 3, "classification", tokens=50), 100)
    assert (tokens.shape, tokens.dtype) == ((100, 12), torch.int64)
    assert (int(tokens.min()), int(tokens.max())) == (0, 49)


def test_counts_take_weights_once_and_no_integers() -> None:
    weight = torch.tensor([[0.0, 1.0], [-0.0, 2.0]])
    tensors = [weight, weight, weight[0].clone(), torch.zeros(3, dtype=torch.int64), torch.empty(0, 4)]
    assert measure.count(tensors) == {"model.parameters": 6.0, "model.nonzero": 3.0, "model.sparsity": 0.5}
    assert measure.count([]) == {"model.parameters": 0.0, "model.nonzero": 0.0, "model.sparsity": 0.0}
    assert measure.count([weight.to(torch.float8_e4m3fn)])["model.nonzero"] == 2.0
    assert measure.zeros(weight.to_sparse()) == 0
