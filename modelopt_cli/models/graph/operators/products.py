"""Matrix products: what is summed over is one axis on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelopt_cli.models.graph.axes import Axis, Clash
from modelopt_cli.models.graph.call import Call, Dims, Operator, table


def _linear(call: Call) -> Dims:
    inputs, weight, bias = call.tensor(0), call.tensor(1), call.dims(call.argument(2, "bias"))
    call.unify(inputs[-1], weight[1])
    call.consumes(call.argument(1), 1, call.argument(0), len(inputs) - 1)
    if bias is not None:
        call.unify(bias[0], weight[0])
    return [*inputs[:-1], weight[0]]


def _linear_macs(call: Call) -> Iterable[Sequence[Axis]]:
    return [[*call.tensor(0), call.tensor(1)[0]]]


def _addmm(call: Call) -> Dims:
    bias, inputs, weight = call.tensor(0), call.tensor(1), call.tensor(2)
    call.unify(inputs[1], weight[0])
    call.unify(bias[-1], weight[1])
    call.consumes(call.argument(2), 0, call.argument(1), 1)
    return [inputs[0], weight[1]]


def _addmm_macs(call: Call) -> Iterable[Sequence[Axis]]:
    return [[*call.tensor(1), call.tensor(2)[1]]]


def _matmul(call: Call) -> Dims:
    one, other = call.tensor(0), call.tensor(1)
    return _product(call, one, other, 0, 1)


def _product(call: Call, one: Dims, other: Dims, first: int, second: int) -> Dims:
    inner = max(0, len(other) - 2)
    call.unify(one[-1], other[inner])
    call.consumes(call.argument(second), inner, call.argument(first), len(one) - 1)
    call.consumes(call.argument(first), len(one) - 1, call.argument(second), inner)
    tail = ([one[-2]] if len(one) > 1 else []) + ([other[-1]] if len(other) > 1 else [])
    sizes = call.shape
    return call.broadcast(sizes[: len(sizes) - len(tail)], [one[:-2], other[:-2]]) + tail


def _matmul_macs(call: Call) -> Iterable[Sequence[Axis]]:
    return [[*_result(call), call.tensor(0)[-1]]]


def _baddbmm(call: Call) -> Dims:
    added, one, other = call.tensor(0), call.tensor(1), call.tensor(2)
    result = _product(call, one, other, 1, 2)
    return call.broadcast(call.shape, [result, added])


def _baddbmm_macs(call: Call) -> Iterable[Sequence[Axis]]:
    return [[*_result(call), call.tensor(1)[-1]]]


def _result(call: Call) -> Dims:
    dims = call.dims(call.node)
    if dims is None:
        raise Clash("no axes")
    return dims


def _outer(call: Call) -> Dims:
    return [call.tensor(0)[0], call.tensor(1)[0]]


def _inner(call: Call) -> Dims:
    one, other = call.tensor(0), call.tensor(1)
    return _contracted(call, [len(one) - 1], [len(other) - 1])


def _vecdot(call: Call) -> Dims:
    """The inner products of vectors along a dimension of two tensors."""
    one, other, dim = call.tensor(0), call.tensor(1), call.node.kwargs.get("dim", call.argument(2, default=-1))
    sizes = [max(a.size, b.size) for a, b in zip(one, other, strict=True)]
    dims = call.broadcast(sizes, [one, other])
    dim %= len(dims)
    call.consumes(call.argument(1), dim, call.argument(0), dim)
    call.consumes(call.argument(0), dim, call.argument(1), dim)
    return [axis for number, axis in enumerate(dims) if number != dim]


def _tensordot(call: Call) -> Dims:
    return _contracted(call, call.argument(2), call.argument(3))


def _contracted(call: Call, of_one: Sequence[int], of_other: Sequence[int]) -> Dims:
    """What is left of two tensors when these dimensions are summed over."""
    one, other = call.tensor(0), call.tensor(1)
    pairs = [(left % len(one), right % len(other)) for left, right in zip(of_one, of_other, strict=True)]
    for left, right in pairs:
        call.unify(one[left], other[right])
        call.consumes(call.argument(1), right, call.argument(0), left)
        call.consumes(call.argument(0), left, call.argument(1), right)
        call.note(f"summed {left}", one[left])
    summed, summed_too = ({pair[number] for pair in pairs} for number in (0, 1))
    rest = [axis for number, axis in enumerate(one) if number not in summed]
    return rest + [axis for number, axis in enumerate(other) if number not in summed_too]


def _contracted_macs(call: Call) -> Iterable[Sequence[Axis]]:
    summed = [axis for (node, _), axis in call.analysis.notes.items() if node == call.node.name]
    return [[*_result(call), *summed]]


def _addmv(call: Call) -> Dims:
    """Its products are left out of the MACs, as FlopCounterMode leaves them out."""
    added, matrix, vector = call.tensor(0), call.tensor(1), call.tensor(2)
    return call.broadcast(call.shape, [_product(call, matrix, vector, 1, 2), added])


def _bilinear(call: Call) -> Dims:
    """Inputs (..., I) and (..., J), weight (O, I, J). torch computes it without a matrix product."""
    one, other, weight = call.tensor(0), call.tensor(1), call.tensor(2)
    for number, inputs in ((1, one), (2, other)):
        call.unify(inputs[-1], weight[number])
        call.consumes(call.argument(2), number, call.argument(number - 1), len(inputs) - 1)
    bias = call.dims(call.argument(3, "bias"))
    if bias is not None:
        call.unify(bias[0], weight[0])
    return [*call.broadcast(call.shape[:-1], [one[:-1], other[:-1]]), weight[0]]


OPERATORS = {
    **table(Operator(_linear, macs=_linear_macs), "linear.default"),
    **table(Operator(_addmm, macs=_addmm_macs), "addmm.default"),
    **table(Operator(_matmul, macs=_matmul_macs), *(f"{name}.default" for name in ("matmul", "mm", "bmm", "mv"))),
    **table(Operator(_matmul, macs=_matmul_macs), "dot.default", "vdot.default"),
    **table(Operator(_baddbmm, macs=_baddbmm_macs), "baddbmm.default"),
    **table(Operator(_outer), "outer.default", "ger.default"),
    **table(Operator(_inner, macs=_contracted_macs), "inner.default"),
    **table(Operator(_tensordot, macs=_contracted_macs), "tensordot.default"),
    **table(Operator(_vecdot), "linalg_vecdot.default"),
    **table(Operator(_addmv), "addmv.default"),
    **table(Operator(_bilinear), "bilinear.default"),
}
