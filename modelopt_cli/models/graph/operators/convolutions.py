"""Convolutions. Channels are groups x channels of a group: a depthwise convolution is all groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelopt_cli.models.graph.axes import Axis, Clash, product
from modelopt_cli.models.graph.call import Call, Dims, Operator, Rewrite, table

SPATIAL = "a position"
KERNEL = "a place in a kernel"
_GROUPS = 6  # position of the argument


def _frame(call: Call, inputs: Dims, weight: Dims) -> None:
    """Positions and kernels stay whole. Raises Clash for a sample without its batch dimension."""
    if len(inputs) != len(weight):
        raise Clash("a convolution of a sample without a batch dimension")
    for axis in inputs[2:]:
        call.freeze(axis, SPATIAL)
    for axis in weight[2:]:
        call.freeze(axis, KERNEL)


def _convolution(call: Call) -> Dims:
    inputs, weight, bias = call.tensor(0), call.tensor(1), call.dims(call.argument(2, "bias"))
    groups = call.argument(_GROUPS, "groups", 1)
    _frame(call, inputs, weight)
    outer, channels = call.split(inputs[1], groups)
    outer_too, _ = call.split(weight[0], groups)
    call.unify(outer, outer_too)
    call.unify(channels, weight[1])
    call.note("groups", outer)
    call.consumes(call.argument(1), 1, call.argument(0), 1)
    if bias is not None:
        call.unify(bias[0], weight[0])
    return [inputs[0], weight[0], *(call.new(size, SPATIAL) for size in call.shape[2:])]


def _convolution_macs(call: Call) -> Iterable[Sequence[Axis]]:
    result = call.dims(call.node)
    return [] if result is None else [[*result, *call.tensor(1)[1:]]]


def _transposed(call: Call) -> Dims:
    inputs, weight, bias = call.tensor(0), call.tensor(1), call.dims(call.argument(2, "bias"))
    groups = call.argument(_GROUPS, "groups", 1)
    _frame(call, inputs, weight)
    call.unify(inputs[1], weight[0])
    outer, channels = call.split(inputs[1], groups)
    call.note("groups", outer)
    call.consumes(call.argument(1), 0, call.argument(0), 1, channels)
    made = product([outer, weight[1]])
    if bias is not None:
        call.unify(bias[0], made)
    return [inputs[0], made, *(call.new(size, SPATIAL) for size in call.shape[2:])]


def _transposed_macs(call: Call) -> Iterable[Sequence[Axis]]:
    return [[*call.tensor(0), *call.tensor(1)[1:]]]


def _set_groups(rewrite: Rewrite) -> None:
    rewrite.set(_GROUPS, rewrite.size(rewrite.noted("groups")), "groups" * ("groups" in rewrite.node.kwargs))


_FORWARD = [f"conv{dims}d.{which}" for dims in (1, 2, 3) for which in ("default", "padding")]
OPERATORS = {
    **table(Operator(_convolution, _set_groups, _convolution_macs), *_FORWARD),
    **table(
        Operator(_transposed, _set_groups, _transposed_macs),
        "conv_transpose1d.default",
        "conv_transpose2d.input",
        "conv_transpose3d.input",
    ),
}
