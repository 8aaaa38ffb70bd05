"""Watching what linear layers and convolutions are given: means, root mean squares and products of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.patches import patches
from modelopt_cli.pruning.common.statistics import Needs, Statistic

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NEVER_CALLED = "its layer was never called on the calibration samples"
_UNWATCHED = "no linear layer or ungrouped convolution takes it, so that its inputs could be watched"
_MIXED = "its attention projects different queries, keys and values with one matrix"
_MOST = 8  # names in a message


class InputWatch:
    """Sums over the forward passes made while it is open. One row a sample and position: what one output is made of.

    A weight is watched in its layer, in nn.MultiheadAttention's fused projections, and where a module's own code gives
    it to F.linear.
    """

    def __init__(self, module: nn.Module, weights: Mapping[str, nn.Parameter], needs: Needs) -> None:
        self._needs = needs & {"input_norm", "input_mean", "gram"}
        self._module, self._weights = module, weights
        self._stack = ExitStack()
        self._rows: dict[str, int] = {}
        self._sums: dict[Statistic, dict[str, Tensor]] = {name: {} for name in self._needs}
        self._reasons: dict[str, str] = {}  # why a weight has no inputs

    def __enter__(self) -> Self:
        if not self._needs:
            return self
        names = {id(weight): name for name, weight in self._weights.items()}
        left = {id(weight): name for name, weight in self._weights.items() if weight.ndim == 2}
        for layer in self._module.modules():
            if isinstance(layer, nn.MultiheadAttention):
                self._watch_attention(layer, names, left)
        for layer in self._module.modules():
            name = names.get(id(getattr(layer, "weight", None)))
            if name is not None and name not in self._reasons and _watchable(layer):
                self._reasons[name] = _NEVER_CALLED
                left.pop(id(layer.weight), None)
                self._hold(layer.register_forward_pre_hook(self._watch(name, layer)))
        if left:
            self._stack.enter_context(_LinearCalls(left, self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _hold(self, handle: Any) -> None:
        self._stack.callback(handle.remove)

    def _watch(self, name: str, layer: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            self._note(name, input_rows(layer, given[0].detach()))

        return hook

    def _watch_attention(self, layer: nn.MultiheadAttention, names: Mapping[int, str], left: dict[int, str]) -> None:
        """Its projections are no layers that are called: their inputs are taken from, or computed beside, its own."""
        projections = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        own = {part: names.get(id(getattr(layer, part, None))) for part in projections}
        outer = names.get(id(layer.out_proj.weight))
        for name, weight in ((own[part], getattr(layer, part)) for part in projections):
            if name is not None:
                self._reasons[name] = _NEVER_CALLED
                left.pop(id(weight), None)
        if outer is not None:
            self._reasons[outer] = _NEVER_CALLED
            left.pop(id(layer.out_proj.weight), None)
        if outer is None and not any(own.values()):
            return

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            query, key, value = (
                args[number] if number < len(args) else kwargs[name]
                for number, name in enumerate(("query", "key", "value"))
            )
            packed = own["in_proj_weight"]
            if packed is not None and query is key and key is value:
                self._note(packed, _rows(query))
            elif packed is not None:
                self._reasons[packed] = _MIXED
            for part, given in (("q_proj_weight", query), ("k_proj_weight", key), ("v_proj_weight", value)):
                name = own[part]
                if name is not None:
                    self._note(name, _rows(given))
            if outer is not None:
                self._note(outer, _rows(_before_projection(layer, args, kwargs)))

        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # it goes past all hooks
        self._stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        self._hold(layer.register_forward_pre_hook(hook, with_kwargs=True))

    def _note(self, name: str, rows: Tensor) -> None:
        """Add (rows, in * kernel) inputs."""
        self._rows[name] = self._rows.get(name, 0) + len(rows)
        if "input_norm" in self._needs:
            self._add("input_norm", name, rows.square().sum(0))
        if "input_mean" in self._needs:
            self._add("input_mean", name, rows.sum(0))
        if "gram" in self._needs:
            self._add("gram", name, (rows.T @ rows).double())

    def _add(self, statistic: Statistic, name: str, total: Tensor) -> None:
        sums = self._sums[statistic]
        sums[name] = sums[name] + total if name in sums else total

    def values(self) -> dict[Statistic, dict[str, Tensor]]:
        """Means over all rows. Raises UsageError that names every weight without inputs, and why it has none."""
        self._check()
        statistics: dict[Statistic, dict[str, Tensor]] = {}
        for statistic, sums in self._sums.items():
            means = {name: total / self._rows[name] for name, total in sums.items()}
            if statistic == "input_norm":
                means = {name: mean.sqrt() for name, mean in means.items()}
            if statistic != "gram":  # (1, in, kernel...), to be multiplied with the weight
                means = {name: mean.view(1, *self._weights[name].shape[1:]) for name, mean in means.items()}
            statistics[statistic] = means
        return statistics

    def _check(self) -> None:
        missing = [name for name in self._weights if self._needs and not self._rows.get(name)]
        if not missing:
            return
        by_reason: dict[str, list[str]] = {}
        for name in missing:
            by_reason.setdefault(self._reasons.get(name, _UNWATCHED), []).append(name)
        reasons = "; ".join(f"{_listed(names)} ({reason})" for reason, names in by_reason.items())
        raise UsageError(
            f"the inputs of these weights are not known, but {' and '.join(sorted(self._needs))} is needed: {reasons}; "
            "leave them out with pruning.exclude, or use magnitude"
        )


class _LinearCalls(TorchFunctionMode):
    """Tells of every F.linear with one of these weights."""

    def __init__(self, names: Mapping[int, str], note: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._names, self._note = names, note

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is F.linear:
            weight = args[1] if len(args) > 1 else given["weight"]
            name = self._names.get(id(weight))
            if name is not None:
                self._note(name, _rows(args[0] if args else given["input"]))
        return func(*args, **given)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _before_projection(layer: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What the output projection of the attention takes in: the same attention, projected by the identity."""
    weight = layer.out_proj.weight
    identity = nn.Linear(weight.shape[1], weight.shape[1], bias=False, device=weight.device, dtype=weight.dtype)
    identity.weight.data.copy_(torch.eye(weight.shape[1]))
    projection = layer.out_proj
    layer._modules["out_proj"] = identity
    try:
        with torch.no_grad():
            mixed: Tensor = layer.forward(*args, **kwargs)[0]
            return mixed
    finally:
        layer._modules["out_proj"] = projection


def _watchable(layer: nn.Module) -> bool:
    if isinstance(layer, _CONVOLUTIONS):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def input_rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """(rows, in * kernel) float32: every output of the layer is a product of the flattened weight with a row."""
    if isinstance(layer, _CONVOLUTIONS):
        assert not isinstance(layer.padding, str)
        rows = patches(inputs.float(), layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        return rows.flatten(0, 1)
    return _rows(inputs)


def _rows(inputs: Tensor) -> Tensor:
    inputs = inputs.detach().float()
    return inputs.flatten(0, -2) if inputs.ndim > 2 else inputs
