"""What a model costs by counting: parameters and zeros, the multiply-accumulate operations of a forward pass.

A multiply-accumulate operation (MAC) is one product and the sum that takes it, two floating-point operations. Those of
matrix products, convolutions and attention count, as in most papers; zeros count like other weights, and biases,
normalisation, activations and poolings do not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.models.duplicates import memory_of
from modelopt_cli.models.modes import evaluating

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


def zeros(tensor: Tensor) -> int:
    """How many of the tensor's values are zero; 0 for a layout that stores no zeros, or values that are packed."""
    if tensor.layout != torch.strided or tensor.is_nested or "x" in str(tensor.dtype).removeprefix("torch.complex"):
        return 0  # (float4_e2m1fn_x2, quint4x2: several values a byte)
    values = tensor.detach()
    if values.is_quantized:
        return _quantized_zeros(values)
    if values.is_floating_point() and values.element_size() == 1:
        values = values.float()  # torch counts in no float8
    elif not values.is_floating_point():
        values = torch.view_as_real(values).any(-1) if values.is_complex() else _whole(values)
    if values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64):
        return values.numel() - int(np.count_nonzero(values.numpy()))  # a fifth of torch's time
    return values.numel() - int(values.count_nonzero())


def _quantized_zeros(values: Tensor) -> int:
    """Those that stand for 0: whose integer is the zero point."""
    whole = values.int_repr().to(torch.int32)
    if values.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return int((whole == values.q_zero_point()).sum())
    points = values.q_per_channel_zero_points()
    axes = [1] * values.dim()
    axes[values.q_per_channel_axis()] = -1
    return int((whole == points.to(torch.int32).view(axes)).sum()) if not points.is_floating_point() else 0


def _whole(values: Tensor) -> Tensor:
    """Whole numbers as signed ones of the same bits, which torch counts whatever their kind."""
    signed = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(values.element_size())
    return values.contiguous().view(signed) if signed is not None and values.dim() else values != 0


def count(tensors: Iterable[Tensor]) -> dict[str, float]:
    """`model.parameters`, `model.nonzero`, `model.sparsity` (share of zeros) of weights.

    Floating-point tensors only, so no steps or indices; tied tensors count once.
    """
    unique = {memory_of(tensor): tensor for tensor in tensors if tensor.is_floating_point()}
    values, zero = (sum(f(tensor) for tensor in unique.values()) for f in (Tensor.numel, zeros))
    share = zero / values if values else 0.0
    return {"model.parameters": float(values), "model.nonzero": float(values - zero), "model.sparsity": share}


def macs(module: nn.Module, example: Tensor) -> dict[str, int]:
    """MACs of one forward pass in evaluation mode on `example` (B, *inputs), by module path, for modules that have any.

    A module's number is what it computes outside the modules in it. Under "" stands the total, which also holds what
    the outermost module computes itself; a module that has two paths goes by its first. Counted with torch's
    FlopCounterMode (MACs = FLOPs / 2), with those fused kernels off that it does not know.
    """
    from torch.utils.flop_counter import FlopCounterMode

    names = {part: name for name, part in module.named_modules()}
    own = dict.fromkeys(names.values(), 0)
    running: list[list[int]] = []  # of each module being called: FLOPs at its start, FLOPs of the modules in it
    counter = FlopCounterMode(display=False, custom_mapping=_products())

    def enter(part: nn.Module, _: Any) -> None:
        running.append([counter.get_total_flops(), 0])

    def leave(part: nn.Module, _: Any, __: Any) -> None:
        start, inner = running.pop()
        spent = counter.get_total_flops() - start
        own[names[part]] += spent - inner
        if running:
            running[-1][1] += spent

    with ExitStack() as stack:
        for part in names:
            stack.callback(part.register_forward_pre_hook(enter).remove)
            stack.callback(part.register_forward_hook(leave).remove)
        stack.enter_context(evaluating(module))
        stack.enter_context(torch.no_grad())  # inference mode has no graph that the counter could hang its hooks on
        stack.enter_context(_plain_kernels())
        stack.enter_context(counter)
        module(example.to(device_of(module)))
    return {"": sum(own.values()) // 2} | {name: flops // 2 for name, flops in own.items() if name and flops}


def example(shapes: Shapes, samples: int, seed: int = 0) -> Tensor:
    """Random inputs (samples, *inputs) of the shape and dtype that a model takes: normal float32, or int64 tokens."""
    generator = torch.Generator().manual_seed(seed)
    size = (samples, *shapes.inputs)
    if shapes.tokens is not None:
        return torch.randint(shapes.tokens, size, generator=generator)
    return torch.randn(size, generator=generator)


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's first parameter or buffer; the CPU when it has none."""
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Attention and recurrence in their single matrix products, where FlopCounterMode sees them."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="TF32 acceleration on top of oneDNN")
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def _products() -> dict[Any, Callable[..., int]]:
    """FLOPs, from the arguments' shapes, of products with vectors, which FlopCounterMode leaves out."""

    def product(first: Sequence[int], *_: Any, **__: Any) -> int:
        return 2 * math.prod(first)

    return dict.fromkeys((torch.ops.aten.mv, torch.ops.aten.dot, torch.ops.aten.vdot), product)
