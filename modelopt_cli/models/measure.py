"""What a model costs: parameters and zeros, the multiply-accumulate operations of a forward pass, measured latency.

A multiply-accumulate operation (MAC) is one product and the sum that takes it, two floating-point operations. Those of
matrix products, convolutions and attention count, as in most papers; zeros count like other weights, and biases,
normalisation, activations and poolings do not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.models.duplicates import memory_of
from modelopt_cli.models.modes import evaluating

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes

_WARM_UP = 10  # turns before what is measured, ...
_WARM_UP_SHARE = 0.2  # ... or this share of the seconds
_NOISY = 0.5  # share of the median over which the middle half of the times may spread
_LEAST = 3  # turns that are measured, however slow
_BLOCKS = 8  # of turns, which tell how far off a ratio of least times may be
_SYSTEMATIC = 0.01  # share by which such a ratio differs between two measurements, however many turns there are


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


@dataclass(frozen=True)
class Latency:
    """How long a module's forward passes took, one after another."""

    name: str
    batch_size: int
    threads: int  # torch's, on the CPU
    device: str
    times: tuple[float, ...]  # (turns,) milliseconds for a batch, in the order measured

    @property
    def median(self) -> float:
        """Milliseconds for a batch."""
        return float(np.median(self.times))

    @property
    def least(self) -> float:
        """Milliseconds for a batch when the machine does nothing else: what comes out again, whatever its load."""
        return float(np.min(self.times))

    @property
    def spread(self) -> tuple[float, float]:
        """25% and 75% quantile, in milliseconds for a batch."""
        low, high = np.quantile(self.times, [0.25, 0.75])
        return float(low), float(high)

    @property
    def samples_per_second(self) -> float:
        """At the median."""
        return 1000.0 * self.batch_size / self.median

    def relative_to(self, other: Latency) -> float:
        """The median over the turns of this one's time divided by the other's in the same turn."""
        return float(np.median(np.divide(self.times, other.times)))

    def least_of(self, other: Latency) -> tuple[float, float]:
        """The least time's ratio to the other's least, both measured in turns, and by what share it may be off."""
        turns = len(self.times)
        blocks = min(_BLOCKS, max(2, turns // 4))
        ends = np.linspace(0, turns, blocks + 1).astype(int)
        parts = [
            min(self.times[start:end]) / min(other.times[start:end]) for start, end in pairwise(ends) if end > start
        ]
        ratio = self.least / other.least
        return ratio, _SYSTEMATIC + 2.0 * float(np.std(parts)) / ratio / math.sqrt(len(parts))


def noise(one: Latency, other: Latency) -> str:
    """Why the two medians are not to be relied on, with figures; empty where they are.

    Where what else the machine does weighs more than the models: the middle half of the times spreads over more than
    half of the median, or the models' ratio within the turns is another one than that of the medians.
    """
    for each in (one, other):
        low, high = each.spread
        if high - low > _NOISY * each.median:
            return (
                f"the time for a batch of {each.batch_size} is noisy ({each.name}: half of the turns took {low:.3g} to "
                f"{high:.3g} ms); measure again when the machine does nothing else"
            )
    paired, medians = one.relative_to(other), one.median / other.median
    if max(paired / medians, medians / paired) > 1.0 + _NOISY / 2:
        return (
            f"the time for a batch of {one.batch_size} is noisy ({other.name} over {one.name}: {1.0 / medians:.3g} by "
            f"the medians, {1.0 / paired:.3g} turn by turn); measure again when the machine does nothing else"
        )
    return ""


def latency(
    contenders: Mapping[str, nn.Module],
    example: Tensor,
    batch_sizes: Sequence[int] = (1, 64),
    *,
    threads: int = 1,
    runs: int = 2000,
    seconds: float = 3.0,
) -> list[Latency]:
    """Latency of every contender at every batch size, on the device that it is on, in evaluation mode.

    The contenders take turns, run by run (A B, B A, ...), so that what else the machine does meets all of them.
    `example` is (N, *inputs); its samples are repeated where a batch takes more. After a warm-up, a batch size gets
    `runs` turns, or those that fit in `seconds`, but at least three. torch's number of threads and the modules' modes
    are as before when it ends.
    """
    before = torch.get_num_threads()
    latencies: list[Latency] = []
    try:
        torch.set_num_threads(threads)
        with evaluating(*contenders.values()), torch.inference_mode():
            for size in batch_sizes:
                batch = example[torch.arange(size, device=example.device) % len(example)]
                calls = {name: _call(module, batch) for name, module in contenders.items()}
                _turns(calls, _WARM_UP, _WARM_UP_SHARE * seconds)
                times = _turns(calls, runs, seconds)
                latencies += [
                    Latency(name, size, threads, str(device_of(module)), tuple(times[name]))
                    for name, module in contenders.items()
                ]
    finally:
        torch.set_num_threads(before)
    return latencies


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's first parameter or buffer; the CPU when it has none."""
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device


def _call(module: nn.Module, batch: Tensor) -> Callable[[], float]:
    """What runs the module once on a batch that lies ready on its device, and gives the milliseconds it took."""
    device = device_of(module)
    ready = batch.to(device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def run() -> float:
        wait()
        start = perf_counter()
        module(ready)
        wait()
        return 1000.0 * (perf_counter() - start)

    return run


def _turns(calls: Mapping[str, Callable[[], float]], most: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each contender in each turn; every second turn goes the other way round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, end = list(calls), perf_counter() + seconds
    for turn in range(most):
        if turn >= _LEAST and perf_counter() >= end:
            break
        for name in order if turn % 2 == 0 else reversed(order):
            times[name].append(calls[name]())
    return times


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
