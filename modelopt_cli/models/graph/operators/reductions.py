"""Reductions and what else looks at a whole dimension."""

from __future__ import annotations

from typing import Any

from modelopt_cli.models.graph.axes import Axis, Clash
from modelopt_cli.models.graph.call import Call, Dims, Operator, table

RANKED = "ranked against each other"
DIAGONAL = "a diagonal"


def _reduced(call: Call, dims: Any, keep: bool, name: str) -> Dims:
    """`name`: what is computed; "" for a sum, to which what is silent adds nothing."""
    inputs = call.tensor(0)
    if isinstance(dims, int):
        dims = [dims]
    reduced = {dim % len(inputs) for dim in dims} if dims else set(range(len(inputs)))
    for index in reduced:
        if name:
            call.shift(inputs[index], name)
        else:
            call.contracts(inputs[index], call.argument(0), index)
    return [
        call.new(1) if index in reduced else axis for index, axis in enumerate(inputs) if keep or index not in reduced
    ]


def _reduction(name: str, keep_at: int = 2) -> Operator:
    def rule(call: Call) -> Dims:
        return _reduced(call, call.argument(1, "dim"), bool(call.argument(keep_at, "keepdim", False)), name)

    return Operator(rule)


def _whole(name: str) -> Operator:
    def rule(call: Call) -> Dims:
        return _reduced(call, None, False, name)

    return Operator(rule)


def _variance(call: Call) -> Dims:
    return _reduced(call, call.argument(1, "dim"), bool(call.node.kwargs.get("keepdim", False)), "a variance")


def _norm(dims_at: int = 2, keep_at: int = 3, default: Any = None) -> Operator:
    """Of vectors, or of matrices: of any order, a number over all that there is, be it silent or not."""

    def rule(call: Call) -> Dims:
        keep = bool(call.argument(keep_at, "keepdim", False))
        return _reduced(call, call.argument(dims_at, "dim", default), keep, "a norm")

    return Operator(rule)


def _similarity(call: Call) -> Dims:
    """Cosine similarity of two tensors along a dimension."""
    one, other, dim = call.tensor(0), call.tensor(1), call.argument(2, "dim", 1)
    sizes = [max(a.size, b.size) for a, b in zip(one, other, strict=True)]
    dims = call.broadcast(sizes, [one, other])
    dim %= len(dims)
    call.shift(dims[dim], "a norm")
    return [axis for number, axis in enumerate(dims) if number != dim]


def _diagonal(call: Call) -> Dims:
    inputs = call.tensor(0)
    given = (call.argument(2, "dim1", 0), call.argument(3, "dim2", 1))
    diagonal = [dim % len(inputs) for dim in given]
    for index in diagonal:
        call.freeze(inputs[index], DIAGONAL)
    rest = [axis for index, axis in enumerate(inputs) if index not in diagonal]
    return rest if str(call.node.target).startswith("aten.trace") else [*rest, call.new(call.shape[-1], DIAGONAL)]


def _over(reason: str) -> Operator:
    """Positions along the dimension are weighed against each other, or run through in order."""

    def rule(call: Call) -> Dims:
        inputs = call.tensor(0)
        call.freeze(inputs[call.argument(1, "dim")], reason)
        return inputs

    return Operator(rule)


def _top(call: Call) -> list[Dims | None]:
    inputs: Dims = list(call.tensor(0))
    dim = call.argument(2, "dim", -1)
    call.freeze(inputs[dim], RANKED)
    inputs[dim] = call.new(_count(call.argument(1)), RANKED)
    return [list(inputs), list(inputs)]


def _extreme(call: Call) -> list[Dims | None]:
    """(maxima, where they stand) along a dimension. Where they stand is a number of a unit: then all units stay."""
    dim = call.argument(1, "dim")
    if any(user.args[1] == 1 and user.users for user in call.node.users):
        call.freeze(call.tensor(0)[dim], RANKED)
    dims = _reduced(call, dim, bool(call.argument(2, "keepdim", False)), "a maximum")
    return [list(dims), list(dims)]


def _moments(call: Call) -> list[Dims | None]:
    """(variance or deviation, mean)"""
    keep = bool(call.argument(3, "keepdim", False))
    dims = _reduced(call, call.argument(1, "dim"), keep, "a variance")
    return [list(dims), list(dims)]


def _sorted(call: Call) -> list[Dims | None]:
    inputs = call.tensor(0)
    call.freeze(inputs[call.argument(1, "dim", -1)], RANKED)
    return [list(inputs), list(inputs)]


def _order(call: Call) -> Dims:
    inputs = call.tensor(0)
    call.freeze(inputs[call.argument(1, "dim", -1)], RANKED)
    return inputs


def _differences(call: Call) -> Dims:
    dim, reason = call.argument(2, "dim", -1), "differences of neighbours"
    given = [call.dims(call.argument(position, name)) for position, name in ((0, ""), (3, "prepend"), (4, "append"))]
    listed = [dims for dims in given if dims is not None]
    for dims in listed:
        call.freeze(dims[dim], reason)
    axes = call.broadcast(call.shape, listed)
    call.freeze(axes[dim], reason)
    return axes


def _triangle(call: Call) -> Dims:
    inputs = call.tensor(0)
    for axis in inputs[-2:]:
        call.freeze(axis, "a triangle of a matrix")
    return inputs


def _count(value: Any) -> int:
    if not isinstance(value, int):
        raise Clash("a computed count")
    return value


def _ranked(call: Call) -> Dims:
    inputs, dim = call.tensor(0), call.argument(1, "dim")
    for axis in inputs if dim is None else [inputs[dim]]:
        call.freeze(axis, RANKED)
    kept = bool(call.argument(2, "keepdim", False))
    dims: list[Axis] = []
    for number, axis in enumerate(inputs):
        ranked = dim is None or number == dim % len(inputs)
        dims += [call.new(1)] * kept if ranked else [axis]
    return dims


OPERATORS = {
    **table(_reduction("a mean"), "mean.dim"),
    **table(_whole("a mean"), "mean.default"),
    **table(_reduction(""), "sum.dim_IntList"),
    **table(_whole(""), "sum.default"),
    **table(_reduction("a maximum"), "amax.default", "amin.default"),
    **table(_whole("a maximum"), "max.default", "min.default"),
    **table(Operator(_extreme), "max.dim", "min.dim"),
    **table(_reduction("a product"), "prod.dim_int"),
    **table(_whole("a product"), "prod.default"),
    **table(_reduction("a sum of exponentials"), "logsumexp.default"),
    **table(_reduction("whether any or all hold"), "any.dim", "any.dims", "all.dim", "all.dims"),
    **table(_whole("whether any or all hold"), "any.default", "all.default"),
    **table(_reduction("a variance", 3), "var.dim", "std.dim"),
    **table(_whole("a variance"), "var.default", "std.default"),
    **table(Operator(_variance), "var.correction", "std.correction"),
    **table(Operator(_moments), "var_mean.dim", "std_mean.dim"),
    **table(Operator(_sorted), "sort.default", "sort.stable"),
    **table(Operator(_order), "argsort.default", "argsort.stable"),
    **table(Operator(_differences), "diff.default"),
    **table(Operator(_triangle), "tril.default", "triu.default", "tril_.default", "triu_.default"),
    **table(_norm(), "linalg_vector_norm.default", "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype"),
    **table(_norm(), "linalg_norm.default", "linalg_norm.ord_str"),
    **table(_norm(default=(-2, -1)), "linalg_matrix_norm.default", "linalg_matrix_norm.str_ord"),
    **table(_norm(1, 2), "frobenius_norm.dim", "nuclear_norm.dim"),
    **table(_whole("a norm"), "norm.Scalar", "norm.ScalarOpt_dtype"),
    **table(Operator(_similarity), "cosine_similarity.default"),
    **table(Operator(_diagonal), "diagonal.default", "trace.default"),
    **table(_reduction("how many are not zero"), "count_nonzero.dim_IntList"),
    **table(_over("summed up in order"), "logcumsumexp.default"),
    **table(_over("weighed against each other (softmax)"), "softmax.int", "_softmax.default", "log_softmax.int"),
    **table(_over("summed up in order"), "cumsum.default", "cumprod.default"),
    **table(Operator(_top), "topk.default"),
    **table(Operator(_ranked), "argmax.default", "argmin.default"),
}
