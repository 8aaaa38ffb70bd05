"""Training that foresees the rounding: weights and activations go through 8 bits and back in every forward pass.

Quantisation-aware training as by Jacob et al. (CVPR 2018). The forward pass rounds, the backward pass takes rounding
for the identity (straight-through; no gradient where a value was cut off). Weights are symmetric int8 with a scale for
each output channel, or one for all: w is rounded to round(w / s) s with s = max|w| / 127, so that zeros stay zeros. The
inputs of layers are uint8 with a zero point, by a range that begins as what calibration samples showed and then follows
the batches as a moving average.

What is rounded is found while the module runs, by the operators that it calls (linear, convolution, attention) on its
own parameters; so no code need be written for it, and a captured graph of operators goes the same way as a module of
layers. A scale for each output channel lets batch normalisation be folded into a convolution afterwards: the folded
weights round to the same integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from modelopt_cli.models.modes import evaluating

if TYPE_CHECKING:
    from modelopt_cli.quantization.settings import QuantizationSettings

_MOVES = 0.01  # share of a batch's range in the moving average
_ATTENTION_WEIGHTS = (5, 11)  # of multi_head_attention_forward's arguments: of the projections before and after
_aten = torch.ops.aten
_AXES: dict[Any, int] = {
    **dict.fromkeys((F.linear, _aten.linear.default), 0),
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), 0),
    **dict.fromkeys((_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default), 0),
    **dict.fromkeys((_aten.conv2d.padding, _aten.conv1d.padding, _aten.conv3d.padding), 0),
    **dict.fromkeys((torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d), 1),
    **dict.fromkeys((_aten.conv_transpose1d.default, _aten.conv_transpose2d.input, _aten.conv_transpose3d.input), 1),
}
"""Operators that are computed in integers -> the dimension of their weight that counts output channels."""

Range = tuple[Tensor, Tensor]
"""The least and the largest value, () float32."""


def fake_quantized(module: nn.Module, settings: QuantizationSettings, calibration: Tensor) -> FakeQuantization:
    """Attach fake quantization to the module, with ranges from `calibration` (N, *inputs), until `close` is called."""
    fake = FakeQuantization(
        module,
        excludes=settings.excludes,
        per_channel=bool(getattr(settings.method, "per_channel", True)),
        bits=7 if getattr(settings.method, "reduce_range", False) else 8,
    )
    fake.calibrate(calibration[: settings.samples])
    return fake


class FakeQuantization:
    """What rounds in the forward passes of `module`, also in those of evaluation. The parameters stay as they are."""

    def __init__(
        self, module: nn.Module, *, excludes: Callable[[str], bool], per_channel: bool = True, bits: int = 8
    ) -> None:
        """`excludes`: whether the layer of this name stays in float. `bits`: of weights."""
        self._module, self._excludes = module, excludes
        self.per_channel, self.most = per_channel, 2 ** (bits - 1) - 1
        self.ranges: dict[str, Range] = {}  # layer -> of its inputs
        self._calibrating = False
        self._running: list[_Rounding] = []
        self._hooks = [
            module.register_forward_pre_hook(self._enter),
            module.register_forward_hook(self._leave, always_call=True),
        ]

    @torch.no_grad()
    def calibrate(self, samples: Tensor, batch_size: int = 64) -> None:
        """Take the ranges of what these (N, *inputs) show, with weights rounded; earlier ranges are forgotten."""
        self.ranges.clear()
        device = next((parameter.device for parameter in self._module.parameters()), torch.device("cpu"))
        self._calibrating = True
        try:
            with evaluating(self._module):
                for batch in torch.split(samples, batch_size):
                    self._module(batch.to(device))
        finally:
            self._calibrating = False

    def close(self) -> None:
        """Let go of the module, which computes in float again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @contextmanager
    def off(self) -> Iterator[None]:
        """In float for a while."""
        hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook.remove()
        try:
            yield
        finally:
            self._hooks = [
                self._module.register_forward_pre_hook(self._enter),
                self._module.register_forward_hook(self._leave, always_call=True),
            ]

    def state(self) -> dict[str, tuple[float, float]]:
        """The ranges as plain numbers."""
        return {name: (float(low), float(high)) for name, (low, high) in self.ranges.items()}

    def load_state(self, state: Mapping[str, tuple[float, float]]) -> None:
        """Go on from what `state` gave."""
        self.ranges = {name: (torch.tensor(low), torch.tensor(high)) for name, (low, high) in state.items()}

    def _enter(self, module: nn.Module, _: Any) -> None:
        rounding = _Rounding(self, {id(value): name for name, value in module.named_parameters()})
        rounding.__enter__()  # type: ignore[no-untyped-call]
        self._running.append(rounding)

    def _leave(self, *_: Any) -> None:
        self._running.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    # What is rounded

    def layer(self, parameter: str) -> str:
        """The layer whose weight the parameter is, as the table of layers calls it."""
        return parameter.removesuffix(".weight").removesuffix(".in_proj_weight")

    def weight(self, weight: Tensor, axis: int) -> Tensor:
        """The weight after rounding, in its shape; gradients go through."""
        values = weight.detach().abs()
        if not self.per_channel:
            scale = (values.amax() / self.most).clamp_min(_LEAST)
            return torch.fake_quantize_per_tensor_affine(weight, float(scale), 0, -self.most, self.most)
        others = [dim for dim in range(weight.dim()) if dim != axis]
        scales = (values.amax(others) / self.most).clamp_min(_LEAST)
        points = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scales, points, axis, -self.most, self.most)

    def inputs(self, name: str, inputs: Tensor) -> Tensor:
        """A layer's inputs after rounding; in training and calibration they move the layer's range."""
        values = inputs.float()
        if self._calibrating or self._module.training or name not in self.ranges:
            self._observe(name, values.detach())
        low, high = (bound.to(values.device) for bound in self.ranges[name])
        scale = ((high - low) / 255.0).clamp_min(_LEAST)
        point = torch.round(-low / scale).clamp(0, 255).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, point, 0, 255).to(inputs.dtype)

    def _observe(self, name: str, values: Tensor) -> None:
        low, high = values.amin().clamp_max(0.0), values.amax().clamp_min(0.0)
        if name in self.ranges:
            before = [bound.to(values.device) for bound in self.ranges[name]]
            if self._calibrating:
                low, high = torch.minimum(low, before[0]), torch.maximum(high, before[1])
            else:
                low, high = torch.lerp(before[0], low, _MOVES), torch.lerp(before[1], high, _MOVES)
        self.ranges[name] = (low, high)


_LEAST = torch.finfo(torch.float32).tiny  # of a scale: what is all zeros stays that


class _Rounding(TorchFunctionMode):
    """One forward pass: calls of operators on the module's own weights get rounded ones."""

    def __init__(self, fake: FakeQuantization, names: Mapping[int, str]) -> None:
        super().__init__()
        self._fake, self._names = fake, names
        self._calls: Counter[str] = Counter()

    @override
    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        axis = _AXES.get(func)
        if axis is not None:
            args, given = self._layer(axis, args, given)
        elif func is F.multi_head_attention_forward:
            args = self._attention(args)
        return func(*args, **given)

    def _layer(self, axis: int, args: Sequence[Any], given: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        inputs = args[0] if args else given["input"]
        weight = args[1] if len(args) > 1 else given["weight"]
        name = self._called(weight)
        if name is None:
            return args, given
        rounded = (self._fake.inputs(name, inputs), self._fake.weight(weight, axis))
        return (*rounded, *args[2:]), {key: value for key, value in given.items() if key not in ("input", "weight")}

    def _attention(self, args: Sequence[Any]) -> Sequence[Any]:
        """The projections of torch's own attention, which calls no layer of its own; what follows them is in float."""
        if len(args) <= max(_ATTENTION_WEIGHTS):
            return args
        changed = list(args)
        name = self._called(args[_ATTENTION_WEIGHTS[0]])
        if name is not None:
            same = args[0] is args[1] and args[1] is args[2]
            query = self._fake.inputs(name, args[0])
            changed[:3] = (
                [query] * 3
                if same
                else [query, *(self._fake.inputs(f"{name}.{key}", args[at]) for at, key in ((1, "key"), (2, "value")))]
            )
            changed[_ATTENTION_WEIGHTS[0]] = self._fake.weight(args[_ATTENTION_WEIGHTS[0]], 0)
        if self._called(args[_ATTENTION_WEIGHTS[1]]) is not None:
            changed[_ATTENTION_WEIGHTS[1]] = self._fake.weight(args[_ATTENTION_WEIGHTS[1]], 0)
        return changed

    def _called(self, weight: Any) -> str | None:
        """The layer's name, with #2, #3 where its weight is used again; None: it is none, or stays in float."""
        parameter = self._names.get(id(weight))
        if parameter is None:
            return None
        name = self._fake.layer(parameter)
        self._calls[name] += 1
        name = name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"
        return None if self._fake._excludes(name) else name
