"""Reshapes, permutations and expansions: factors regroup, dimensions change places."""

from __future__ import annotations

from typing import Any

from torch import fx

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.models.graph.axes import Clash, product
from modelopt_cli.models.graph.call import Call, Dims, Operator, Rewrite, table


class UnwritableError(ModeloptError):
    """A size that only arithmetic on symbolic sizes gives, where more than one of them would have to change."""


def _reshape(call: Call) -> Dims:
    left, dims = product(call.tensor(0)), []
    for size in call.shape:
        head, left = call.split(left, size)
        dims.append(head if size > 1 else call.new(1))
    return dims


def _sizes(position: int) -> Any:
    """The rewriter of an operator whose argument there lists the result's sizes, aligned at the last one.

    A size that is computed (batch * heads) cannot be written as a number: it becomes -1, to be inferred.
    """

    def rewrite(call: Rewrite) -> None:
        old, expands = call.argument(position), "expand" in str(call.node.target)
        if not isinstance(old, list | tuple):
            return
        axes, known = (listed[-len(old) :] if old else [] for listed in (call.results(), call.node.meta["val"].shape))
        new: list[Any] = []
        for value, axis, size in zip(old, axes, known, strict=True):
            if isinstance(value, int):
                inferred = value < 0 and (expands or not isinstance(size, int))
                new.append(value if inferred else call.size(axis))
            else:
                new.append(-1 if call.changed(axis) else value)
        if not expands and sum(value == -1 for value in new if isinstance(value, int)) > 1:
            raise UnwritableError(f"{call.node.name} in {call.path}: more than one of its sizes is computed")
        call.set(position, new)

    return rewrite


def _unflatten(call: Rewrite) -> None:
    inputs = call.dims(call.argument(0))
    assert inputs is not None
    dim = call.argument(1) % len(inputs)
    axes = call.results()[dim : dim + len(call.argument(2))]
    sizes = [
        call.size(axis) if isinstance(value, int) and value > 0 else value
        for value, axis in zip(call.argument(2), axes, strict=True)
    ]
    call.set(2, sizes)


def _permute(call: Call) -> Dims:
    inputs = call.tensor(0)
    return [inputs[dim] for dim in call.argument(1)]


def _transpose(call: Call) -> Dims:
    dims, one, other = list(call.tensor(0)), call.argument(1), call.argument(2)
    dims[one], dims[other] = dims[other], dims[one]
    return dims


def _reversed(call: Call) -> Dims:
    return call.tensor(0)[::-1]


def _matrix_transposed(call: Call) -> Dims:
    *lead, rows, columns = call.tensor(0)
    return [*lead, columns, rows]


def _movedim(call: Call) -> Dims:
    inputs = call.tensor(0)
    given: list[Any] = list(call.node.args[1:3])
    sources, targets = ([each] if isinstance(each, int) else list(each) for each in given)
    sources, targets = ([dim % len(inputs) for dim in dims] for dims in (sources, targets))
    rest = iter([axis for dim, axis in enumerate(inputs) if dim not in sources])
    moved = dict(zip(targets, sources, strict=True))
    return [inputs[moved[dim]] if dim in moved else next(rest) for dim in range(len(inputs))]


def _expand(call: Call) -> Dims:
    return call.broadcast(call.shape, [call.tensor(0)])


def _expand_as(call: Call) -> Dims:
    return call.broadcast(call.shape, [call.tensor(0), call.tensor(1)])


def _repeat(call: Call) -> Dims:
    inputs, times = call.tensor(0), call.argument(1)
    inputs = [call.new(1) for _ in range(len(times) - len(inputs))] + inputs
    return [
        axis if call.number(count) == 1 else product([call.new(call.number(count)), axis])
        for count, axis in zip(times, inputs, strict=True)
    ]


def _repeat_interleave(call: Call) -> Dims:
    dims, times = list(call.tensor(0)), call.argument(1)
    dim = call.argument(2, "dim")
    if dim is None or isinstance(times, fx.Node):
        raise Clash("an interleaving without a dimension")
    dims[dim] = product([dims[dim], call.new(times)])
    return dims


def _fresh(call: Call) -> Dims:
    return call.new_dims()


def _counted(call: Call) -> Dims:
    return call.new_dims("a range of numbers")


_VIEWS = (
    "view.default reshape.default _unsafe_view.default flatten.using_ints squeeze.dim squeeze.dims squeeze.default "
    "unsqueeze.default ravel.default view_as.default reshape_as.default"
)
_LISTED = ("view.default", "reshape.default", "_unsafe_view.default")
_MADE = ("zeros.default", "ones.default", "full.default", "empty.memory_format", "rand.default")
OPERATORS = {
    **table(Operator(_reshape), *_VIEWS.split()),
    **table(Operator(_reshape, _sizes(1)), *_LISTED),
    **table(Operator(_reshape, _unflatten), "unflatten.int"),
    **table(Operator(_permute), "permute.default"),
    **table(Operator(_transpose), "transpose.int", "swapaxes.default", "swapdims.default"),
    **table(Operator(_reversed), "t.default", "numpy_T.default"),
    **table(Operator(_matrix_transposed), "mT.default"),
    **table(Operator(_movedim), "movedim.int", "movedim.intlist", "moveaxis.int", "moveaxis.intlist"),
    **table(Operator(_expand, _sizes(1)), "expand.default"),
    **table(Operator(_expand_as), "expand_as.default"),
    **table(Operator(_repeat), "repeat.default", "tile.default"),
    **table(Operator(_repeat_interleave), "repeat_interleave.self_int"),
    **table(Operator(_fresh, _sizes(0)), *_MADE),
    **table(Operator(_fresh, _sizes(1)), *(f"new_{name}.default" for name in ("zeros", "ones", "full", "empty"))),
    **table(Operator(_fresh), "scalar_tensor.default"),
    **table(Operator(_counted), "arange.default", "arange.start", "arange.start_step"),
}
