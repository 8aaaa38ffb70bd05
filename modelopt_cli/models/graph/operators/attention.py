"""Scaled dot-product attention. Its scale depends on the head's width, so it is written down when that shrinks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from modelopt_cli.models.graph.axes import Axis
from modelopt_cli.models.graph.call import Call, Dims, Operator, Rewrite, table


def _attention(call: Call) -> Dims:
    query, key, value = call.tensor(0), call.tensor(1), call.tensor(2)
    mask = call.dims(call.argument(3, "attn_mask"))
    call.note("width", query[-1])
    call.unify(query[-1], key[-1])
    call.contracts(query[-1], call.argument(0), len(query) - 1)
    call.unify(key[-2], value[-2])
    call.freeze(key[-2], "weighed against each other (softmax)")
    grouped = bool(call.node.kwargs.get("enable_gqa")) and query[-3].size != key[-3].size
    if grouped:  # query heads are key heads x repeats
        heads, _ = call.split(query[-3], key[-3].size)
        call.unify(heads, key[-3])
        call.unify(key[-3], value[-3])
        outer = [dims[:-3] for dims in (query, key, value)]
        lead = [*call.broadcast(call.shape[:-3], outer), query[-3]]
    else:
        lead = call.broadcast(call.shape[:-2], [dims[:-2] for dims in (query, key, value)])
    if mask is not None:
        whole = [*lead, query[-2], key[-2]]
        call.broadcast([axis.size for axis in whole], [whole, mask])
    return [*lead, query[-2], value[-1]]


def _attention_macs(call: Call) -> Iterable[Sequence[Axis]]:
    query, key, value = call.tensor(0), call.tensor(1), call.tensor(2)
    return [[*query, key[-2]], [*query[:-1], key[-2], value[-1]]]


def _pin_scale(call: Rewrite) -> None:
    width = call.noted("width")
    if call.node.kwargs.get("scale") is None and len(call.node.args) < 7 and call.changed(width):
        call.node.kwargs = {**call.node.kwargs, "scale": 1.0 / math.sqrt(width.size)}


OPERATORS = table(Operator(_attention, _pin_scale, _attention_macs), "scaled_dot_product_attention.default")
