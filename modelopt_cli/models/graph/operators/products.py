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
    found = call.dims(call.node)
    if found is None:
        raise Clash("no axes")
    return found


def _subscripts(call: Call) -> tuple[list[str], str]:
    equation = str(call.argument(0)).replace(" ", "")
    if "." in equation or "->" not in equation:
        raise Clash("an einsum with an ellipsis, or without ->")
    inputs, output = equation.split("->")
    return inputs.split(","), output


def _einsum(call: Call) -> Dims:
    inputs, output = _subscripts(call)
    of_letter: dict[str, Axis] = {}
    given = call.argument(1)
    for letters, value in zip(inputs, given, strict=True):
        dims = call.dims(value)
        if dims is None or len(set(letters)) < len(letters):
            raise Clash("an einsum over a diagonal")
        for letter, axis in zip(letters, dims, strict=True):
            if letter in of_letter:
                call.unify(of_letter[letter], axis)
            else:
                of_letter[letter] = axis
    for place, letters in enumerate(inputs):
        for dim, letter in enumerate(letters):
            if letter not in output:
                sources = [at for at, other in enumerate(inputs) if at != place and letter in other]
                if sources:
                    call.consumes(given[place], dim, given[sources[0]], inputs[sources[0]].index(letter))
                else:
                    call.contracts(of_letter[letter], given[place], dim)
    return [of_letter[letter] for letter in output]


def _einsum_macs(call: Call) -> Iterable[Sequence[Axis]]:
    inputs, _ = _subscripts(call)
    axes = {
        letter: axis
        for letters, value in zip(inputs, call.argument(1), strict=True)
        for letter, axis in zip(letters, call.dims(value) or [], strict=True)
    }
    return [list(axes.values())] if len(inputs) > 1 else []


OPERATORS = {
    **table(Operator(_linear, macs=_linear_macs), "linear.default"),
    **table(Operator(_addmm, macs=_addmm_macs), "addmm.default"),
    **table(Operator(_matmul, macs=_matmul_macs), "matmul.default", "mm.default", "bmm.default", "mv.default"),
    **table(Operator(_baddbmm, macs=_baddbmm_macs), "baddbmm.default"),
    **table(Operator(_einsum, macs=_einsum_macs), "einsum.default"),
}
