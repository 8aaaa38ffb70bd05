"""Rows chosen by indices: embeddings, and indexing with tensors."""

from __future__ import annotations

from modelopt_cli.models.graph.axes import Clash
from modelopt_cli.models.graph.call import Call, Dims, Operator, table

INDEXED = "chosen by indices"


def _embedding(call: Call) -> Dims:
    weight, indices = call.tensor(0), call.tensor(1)
    call.freeze(weight[0], "the vocabulary of an embedding")
    return [*indices, weight[1]]


def _index(call: Call) -> Dims:
    inputs, indices = call.tensor(0), call.argument(1)
    indexed = [dim for dim, each in enumerate(indices) if each is not None]
    if indexed != list(range(indexed[0], indexed[-1] + 1)):
        raise Clash("indices that do not stand side by side")
    given = [call.dims(indices[dim]) for dim in indexed]
    if any(dims is None for dims in given):
        raise Clash("an index that is no tensor")
    for dim in indexed:
        call.freeze(inputs[dim], INDEXED)
    rest = len(inputs) - len(indexed)
    chosen = call.shape[indexed[0] : len(call.shape) - (rest - indexed[0])]
    return [*inputs[: indexed[0]], *call.broadcast(chosen, [dims or [] for dims in given]), *inputs[indexed[-1] + 1 :]]


def _index_select(call: Call) -> Dims:
    dims, dim = list(call.tensor(0)), call.argument(1)
    call.freeze(dims[dim], INDEXED)
    dims[dim] = call.new(call.shape[dim], INDEXED)
    return dims


def _index_put(call: Call) -> Dims:
    """x[:, indices] = values, in place or not: the dimensions with indices stay; all do, unless a number is written."""
    inputs, values = call.tensor(0), call.dims(call.argument(2)) or []
    indices = [*call.argument(1), *[None] * len(inputs)]
    written = any(axis.size > 1 for axis in values)
    for axis, index in zip(inputs, indices, strict=False):
        if written or index is not None:
            call.freeze(axis, INDEXED)
    for axis in values:
        call.freeze(axis, INDEXED)
    return inputs


def _gather(call: Call) -> Dims:
    """Each position of `index` says which one to take along the dimension; all others stand where they stood."""
    _beside(call, 0, 2)
    return call.tensor(2)


def _scatter(call: Call) -> Dims:
    _beside(call, 0, 2)
    if call.dims(call.argument(3)):
        _beside(call, 3, 2)
    return call.tensor(0)


def _beside(call: Call, position: int, index: int) -> None:
    """The tensor's axes are those of the index, but for the dimension that is chosen from."""
    inputs, indices = call.tensor(position), call.tensor(index)
    for dim, (own, other) in enumerate(zip(inputs, indices, strict=True)):
        if dim != call.argument(1) % len(inputs) and own.size == other.size:
            call.unify(own, other)
        else:
            call.freeze(own, INDEXED)
            call.freeze(other, INDEXED)


OPERATORS = {
    **table(Operator(_index_put), "index_put.default", "index_put_.default"),
    **table(Operator(_gather), "gather.default"),
    **table(
        Operator(_scatter),
        *(f"scatter{end}.{which}" for end in ("", "_") for which in ("src", "value")),
        *(f"scatter_add{end}.default" for end in ("", "_")),
    ),
    **table(Operator(_embedding), "embedding.default"),
    **table(Operator(_index), "index.Tensor"),
    **table(Operator(_index_select), "index_select.default"),
}
