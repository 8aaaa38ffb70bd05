"""Taking units out of a captured graph: its tensors are sliced, its sizes written anew. The reference for all else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.analysis import Analysis, attribute, duplicate
from modelopt_cli.models.graph.axes import Axis, Keep, kept
from modelopt_cli.models.graph.call import Rewrite
from modelopt_cli.models.graph.gains import made_up
from modelopt_cli.models.graph.operators import operator_of
from modelopt_cli.models.graph.operators.elementwise import ELEMENTWISE
from modelopt_cli.models.graph.walk import writes

Slices = dict[str, list[Tensor | None]]
"""Tensor's name -> for each dimension the indices that stay; None: all."""


def slices(analysis: Analysis, keep: Keep, held: Keep | None = None) -> Slices:
    """What stays of each tensor that shrinks, counted in what `held` has left of it. Tied names each have an entry."""
    stays: Slices = {}
    for name, dims in analysis.tensors.items():
        indices: list[Tensor | None] = []
        for axis in dims:
            mask = kept(axis, keep)
            if held:
                mask = mask[kept(axis, held)]
            indices.append(None if mask.all() else torch.from_numpy(np.flatnonzero(mask)))
        if any(index is not None for index in indices):
            stays[name] = indices
    return stays


def sliced(tensor: Tensor, indices: list[Tensor | None]) -> Tensor:
    """A copy with what stays."""
    values = tensor.detach()
    for dim, index in enumerate(indices):
        if index is not None:
            values = values.index_select(dim, index.to(values.device))
    return values.clone() if values is tensor or values.data_ptr() == tensor.data_ptr() else values.contiguous()


def rewritten(graph: fx.GraphModule, analysis: Analysis, keep: Keep, held: Keep | None = None) -> fx.GraphModule:
    """A graph without what `keep` leaves out; `graph` is left alone, and shares the tensors that do not change.

    The nodes of `graph` are those of the analysis, as captured; its tensors have what `held` leaves of them.
    Raises UnwritableError where a size cannot be written.
    """
    new = fx.GraphModule(graph, duplicate(graph))
    for node in new.graph.nodes:
        if node.op == "call_function" and node.name not in analysis.opaque:
            operator = operator_of(node.target)
            if operator is not None and operator.rewrite is not None and node.name in analysis.values:
                operator.rewrite(Rewrite(node, analysis, keep))
    for name, value in remade(graph, analysis, keep, held).items():
        set_tensor(new, name, value)
    new.recompile()
    return new


def remade(module: nn.Module, analysis: Analysis, keep: Keep, held: Keep | None = None) -> dict[str, Tensor]:
    """What becomes of each tensor that changes, by every name that it has: slices, and gains that make up for some.

    `module`: whose tensors these are. Raises AttributeError where it has not one of them.
    """
    changed: dict[str, Tensor] = {}
    if analysis.gains:
        tensors = {name: attribute(module, name) for name in analysis.needed_by_gains()}
        changed = made_up(analysis.gains, analysis.weights, tensors, keep, held)
    cut = slices(analysis, keep, held)
    made: dict[str, Tensor] = {}
    by_name: dict[str, Tensor] = {}
    for name, first in analysis.first.items():
        if name in cut or first in changed:
            if first not in made:
                old = attribute(module, name)
                value = changed[first] if first in changed else sliced(old, cut[name])
                made[first] = nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value
            by_name[name] = made[first]
    return by_name


def set_tensor(module: nn.Module, path: str, tensor: Tensor) -> None:
    """Put a tensor in place of the parameter, buffer or constant at a dotted path."""
    owner, _, last = path.rpartition(".")
    holder = attribute(module, owner) if owner else module
    if last in holder._parameters:
        holder._parameters[last] = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
    elif last in holder._buffers:
        holder._buffers[last] = tensor
    else:
        setattr(holder, last, tensor)


@torch.no_grad()
def silenced(graph: fx.GraphModule, analysis: Analysis, keep: Keep, held: Keep | None = None) -> fx.GraphModule:
    """A graph of what `held` leaves, in which the units that `keep` leaves out give nothing, and weights are whole.

    Weights are zero where an operator multiplies them with what an input takes part in, so that what is computed over
    weights alone (norms, sums) stays what it was; what an operator gives that takes each position by itself is zero in
    the place of its weights, as a divisor may be one. Of units that no input takes part in, parameters are zero.
    """
    new = rewritten(graph, analysis, held, held) if held else fx.GraphModule(graph, duplicate(graph))
    before = held or {}
    _silence_apart(new, analysis, keep, before)
    learned = _learned(new, analysis)

    def going(node: fx.Node) -> dict[int, Tensor]:
        dims = analysis.values.get(node.name)
        whole = dims is not None and all(axis is not None and not isinstance(axis, list) for axis in dims)
        return _places_gone(dims, keep, before) if whole else {}  # type: ignore[arg-type]

    for node in list(new.graph.nodes):
        if node.op != "call_function" or node.name in analysis.static:
            continue
        weights = [each for each in node.all_input_nodes if each.name in learned and going(each)]
        if weights and operator_of(node.target) is ELEMENTWISE and not writes(node):
            users = list(node.users)
            quiet = _filled(new, node, going(node), node.next)
            for user in users:
                user.replace_input_with(node, quiet)
        else:
            for each in weights:
                node.replace_input_with(each, _filled(new, each, going(each), node))
    new.recompile()
    return new


def _silence_apart(graph: fx.GraphModule, analysis: Analysis, keep: Keep, held: Keep) -> None:
    """Zeros in the parameters' slices of units that no input takes part in, such as those between two factors."""
    apart = {prime: mask for prime, mask in keep.items() if prime not in analysis.active}
    for name, dims in analysis.tensors.items():
        places, old = _places_gone(dims, apart, held), attribute(graph, name)
        if places and isinstance(old, nn.Parameter) and (old.is_floating_point() or old.is_complex()):
            value = old.detach().clone()
            for dim, index in places.items():
                if (analysis.first[name], dim) not in analysis.normalized:
                    value.index_fill_(dim, index.to(value.device), 0.0)
            set_tensor(graph, name, nn.Parameter(value, old.requires_grad))


def _learned(graph: fx.GraphModule, analysis: Analysis) -> set[str]:
    """Nodes of weights that parameters take part in."""
    learned: set[str] = set()
    for node in graph.graph.nodes:
        own = node.op == "get_attr" and isinstance(attribute(graph, str(node.target)), nn.Parameter)
        if node.name in analysis.static and (own or any(each.name in learned for each in node.all_input_nodes)):
            learned.add(node.name)
    return learned


def _places_gone(dims: Sequence[Axis], keep: Keep, held: Keep) -> dict[int, Tensor]:
    """Dimension -> the places along it, in what `held` leaves, that `keep` leaves out."""
    left = {**held, **keep}
    masks = {dim: kept(axis, left)[kept(axis, held)] for dim, axis in enumerate(dims)}
    return {dim: torch.from_numpy(np.flatnonzero(~mask)) for dim, mask in masks.items() if not mask.all()}


def _filled(graph: fx.GraphModule, node: fx.Node, places: Mapping[int, Tensor], later: fx.Node) -> fx.Node:
    """The node's value with zeros in these places, made before a later node."""
    with graph.graph.inserting_before(later):
        for dim, index in places.items():
            name = f"_gone_{len(graph._buffers)}"
            graph.register_buffer(name, index.to(node.meta["val"].device) if "val" in node.meta else index)
            index_node = graph.graph.get_attr(name)
            meta = node.meta
            node = graph.graph.call_function(torch.ops.aten.index_fill.int_Scalar, (node, dim, index_node, 0))
            node.meta = dict(meta)
    return node


@torch.no_grad()
def error(graph: fx.GraphModule, analysis: Analysis, keep: Keep, inputs: Tensor, held: Keep | None = None) -> float:
    """The oracle: the largest difference between units silenced and units removed, as a share of the largest output."""
    expected = first_tensor(silenced(graph, analysis, keep, held)(inputs))
    outputs = first_tensor(rewritten(graph, analysis, keep, held)(inputs))
    return off(outputs, expected)


def off(outputs: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest value that is expected; inf for other shapes, or for NaN."""
    if outputs.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    share = float((outputs - expected).abs().max()) / max(float(expected.abs().max()), 1e-12)
    return share if math.isfinite(share) else math.inf


def first_tensor(outputs: object) -> Tensor:
    """A model's output; of several the first tensor."""
    if isinstance(outputs, Tensor):
        return outputs
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    return next(first_tensor(each) for each in values if each is not None)  # type: ignore[attr-defined]
