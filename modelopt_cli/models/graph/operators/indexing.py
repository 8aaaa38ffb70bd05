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
    places = [place for place, each in enumerate(indices) if each is not None]
    if places != list(range(places[0], places[-1] + 1)):
        raise Clash("indices that do not stand side by side")
    given = [call.dims(indices[place]) for place in places]
    if any(dims is None for dims in given):
        raise Clash("an index that is no tensor")
    for place in places:
        call.freeze(inputs[place], INDEXED)
    rest = len(inputs) - len(places)
    chosen = call.shape[places[0] : len(call.shape) - (rest - places[0])]
    return [*inputs[: places[0]], *call.broadcast(chosen, [dims or [] for dims in given]), *inputs[places[-1] + 1 :]]


def _index_select(call: Call) -> Dims:
    found, dim = list(call.tensor(0)), call.argument(1)
    call.freeze(found[dim], INDEXED)
    found[dim] = call.new(call.shape[dim], INDEXED)
    return found


OPERATORS = {
    **table(Operator(_embedding), "embedding.default"),
    **table(Operator(_index), "index.Tensor"),
    **table(Operator(_index_select), "index_select.default"),
}
