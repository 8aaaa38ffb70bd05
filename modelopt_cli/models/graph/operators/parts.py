"""Concatenation, splitting, slicing, padding: sums of axes and their terms."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import fx

from modelopt_cli.models.graph.axes import Axis, Clash, total
from modelopt_cli.models.graph.call import Call, Dims, Operator, Rewrite, hint, table

SELECTED = "chosen by its place"


def _cat(call: Call) -> Dims:
    parts = []
    for value in call.argument(0):
        dims = call.dims(value)
        if dims is None:
            raise Clash("a part that is no tensor")
        parts.append(dims)
    rank = len(call.shape)
    parts = [dims for dims in parts if len(dims) == rank]  # torch lets an empty vector pass
    dim = call.argument(1, "dim", 0) % rank
    axes = list(parts[0])
    for dims in parts[1:]:
        for number in range(rank):
            if number != dim:
                call.unify(axes[number], dims[number])
    axes[dim] = total([dims[dim] for dims in parts])
    return axes


def _stack(call: Call) -> Dims:
    parts = [call.dims(value) for value in call.argument(0)]
    first = parts[0]
    dim = call.argument(1, "dim", 0) % len(call.shape)
    if first is None:
        raise Clash("a part that is no tensor")
    for dims in parts[1:]:
        for one, other in zip(first, dims or [], strict=True):
            call.unify(one, other)
    return [*first[:dim], call.new(len(parts), SELECTED), *first[dim:]]


def _split(call: Call) -> list[Dims | None]:
    inputs = call.tensor(0)
    dim = call.argument(2, "dim", 0) % len(inputs)
    sizes = [hint(value.shape[dim]) for value in call.node.meta["val"]]
    pieces = call.cut(inputs[dim], list(accumulate(sizes))[:-1])
    by_number = isinstance(call.argument(1), int)
    if by_number and len(set(sizes)) == 1:  # the module's code says a number, so pieces stay equal
        for piece in pieces[1:]:
            call.unify(pieces[0], piece)
    return [[*inputs[:dim], piece, *inputs[dim + 1 :]] for piece in pieces]


def _resize_split(call: Rewrite) -> None:
    inputs = call.dims(call.argument(0))
    given = call.argument(1)
    if inputs is None or any(isinstance(each, fx.Node) for each in (given if isinstance(given, list) else [given])):
        return
    dim = call.argument(2, "dim", 0) % len(inputs)
    if not call.changed(inputs[dim]):
        return  # it may be the batch, whose size is open
    sizes = [call.size(dims[dim]) for dims in call.results()]
    call.node.target = torch.ops.aten.split_with_sizes.default
    call.node.args, call.node.kwargs = (call.argument(0), sizes, dim), {}


def _unbind(call: Call) -> list[Dims | None]:
    inputs = call.tensor(0)
    dim = call.argument(1, "dim", 0) % len(inputs)
    call.freeze(inputs[dim], SELECTED)
    return [[*inputs[:dim], *inputs[dim + 1 :]] for _ in range(inputs[dim].size)]


def _select(call: Call) -> Dims:
    inputs = call.tensor(0)
    dim = call.argument(1) % len(inputs)
    call.freeze(inputs[dim], SELECTED)
    return [*inputs[:dim], *inputs[dim + 1 :]]


def _bounds(call: Any, dims: Dims) -> tuple[int, Any, Any, Any]:
    """(dimension, start, end, step) of a slice."""
    dim = call.argument(1, "dim", 0) % len(dims)
    return dim, call.argument(2, "start", 0) or 0, call.argument(3, "end"), call.argument(4, "step", 1)


def _slice(call: Call) -> Dims:
    dims = list(call.tensor(0))
    dim, start, end, step = _bounds(call, dims)
    size, wanted = dims[dim].size, call.shape[dim]
    if wanted == size:
        return dims
    if step != 1 or not all(isinstance(bound, int | None) for bound in (start, end)):
        call.freeze(dims[dim], "a slice with steps, or with computed bounds")
        dims[dim] = call.new(wanted, "a slice with steps, or with computed bounds")
        return dims
    start = start + size if start < 0 else start
    dims[dim] = call.cut(dims[dim], [start, start + wanted])[1]
    return dims


def _resize_slice(call: Rewrite) -> None:
    inputs = call.dims(call.argument(0))
    assert inputs is not None
    dim, start, _, _ = _bounds(call, inputs)
    size, wanted = inputs[dim].size, call.results()[dim].size
    if not call.changed(inputs[dim]) or wanted == size:
        return
    mask = call.mask(inputs[dim])
    start = start + size if start < 0 else start
    call.node.args = (call.argument(0), dim, int(mask[:start].sum()), int(mask[: start + wanted].sum()))
    call.node.kwargs = {}


def _narrow(call: Call) -> Dims:
    dims = list(call.tensor(0))
    dim, start, wanted = call.argument(1), call.argument(2), call.argument(3)
    if not isinstance(start, int) or not isinstance(wanted, int):
        raise Clash("computed bounds")
    start = start + dims[dim].size if start < 0 else start
    dims[dim] = call.cut(dims[dim], [start, start + wanted])[1]
    return dims


def _resize_narrow(call: Rewrite) -> None:
    inputs, dim, start = call.dims(call.argument(0)), call.argument(1), call.argument(2)
    assert inputs is not None
    if call.changed(inputs[dim]):
        mask = call.mask(inputs[dim])
        start = start + inputs[dim].size if start < 0 else start
        call.set(2, int(mask[:start].sum()))
        call.set(3, int(mask[start : start + call.argument(3)].sum()))


def _pad(call: Call) -> Dims:
    if call.argument(2, "mode", "constant") not in ("constant", 0, 0.0) and isinstance(call.argument(2, "mode"), str):
        return _reflected(call)
    dims, amounts = list(call.tensor(0)), call.argument(1)
    for back in range(len(amounts) // 2):
        left, right = amounts[2 * back : 2 * back + 2]
        if left < 0 or right < 0:
            call.freeze(dims[-1 - back], "cut by a negative padding")
            dims[-1 - back] = call.new(call.shape[-1 - back], "cut by a negative padding")
        elif left or right:
            added: list[Axis] = [call.new(each) for each in (left, right)]
            dims[-1 - back] = total([added[0], dims[-1 - back], added[1]])
    return dims


def _reflected(call: Call) -> Dims:
    dims, amounts = list(call.tensor(0)), call.argument(1)
    for back in range(len(amounts) // 2):
        call.freeze(dims[-1 - back], "padded by its own values")
        dims[-1 - back] = call.new(call.shape[-1 - back], "padded by its own values")
    return dims


def _resize_pad(call: Rewrite) -> None:
    amounts, result = list(call.argument(1)), call.results()
    for back in range(len(amounts) // 2):
        left, right = amounts[2 * back : 2 * back + 2]
        if min(left, right) >= 0 and max(left, right) > 0:
            mask = call.mask(result[-1 - back])
            amounts[2 * back] = int(mask[:left].sum())
            amounts[2 * back + 1] = int(mask[len(mask) - right :].sum())
    call.set(1, amounts)


def _moved_around(position: int) -> Operator:
    """roll and flip: positions change places within the dimensions that an argument names, or within the whole."""

    def rule(call: Call) -> Dims:
        inputs = call.tensor(0)
        for dim in call.argument(position, "dims") or range(len(inputs)):
            call.freeze(inputs[dim], "moved within its dimension")
        return inputs

    return Operator(rule)


def _gated(call: Call) -> Dims:
    """Gated linear unit: the second half of the dimension gates the first, so they are one."""
    dims = list(call.tensor(0))
    dim = call.argument(1, "dim", -1)
    value, gate = call.cut(dims[dim], [dims[dim].size // 2])
    call.unify(value, gate)
    dims[dim] = value
    return dims


def _unfold(call: Call) -> Dims:
    """Windows along a dimension; their places stand in a new last one."""
    dims = list(call.tensor(0))
    dim = call.argument(1) % len(dims)
    call.freeze(dims[dim], "windows that overlap")
    dims[dim] = call.new(call.shape[dim], "windows that overlap")
    return [*dims, call.new(call.shape[-1], "windows that overlap")]


OPERATORS = {
    **table(Operator(_cat), "cat.default", "concat.default", "concatenate.default"),
    **table(Operator(_stack), "stack.default"),
    **table(
        Operator(_split, _resize_split),
        "chunk.default",
        "split.Tensor",
        "split_with_sizes.default",
        "split.sizes",
        "tensor_split.sections",
        "tensor_split.indices",
        "unsafe_chunk.default",
        "unsafe_split.Tensor",
        "unsafe_split_with_sizes.default",
    ),
    **table(Operator(_unbind), "unbind.int"),
    **table(Operator(_select), "select.int"),
    **table(Operator(_slice, _resize_slice), "slice.Tensor"),
    **table(Operator(_pad, _resize_pad), "constant_pad_nd.default", "pad.default"),
    **table(_moved_around(2), "roll.default"),
    **table(_moved_around(1), "flip.default"),
    **table(Operator(_gated), "glu.default"),
    **table(Operator(_unfold), "unfold.default"),
    **table(Operator(_narrow, _resize_narrow), "narrow.default"),
}
