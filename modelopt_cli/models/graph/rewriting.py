"""Taking units out of a captured graph: its tensors are sliced, its sizes written anew. The reference for all else."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.analysis import Analysis, attribute
from modelopt_cli.models.graph.axes import Keep, kept
from modelopt_cli.models.graph.call import Rewrite
from modelopt_cli.models.graph.operators import operator_of

Slices = dict[str, list[Tensor | None]]
"""Tensor's name -> for each dimension the indices that stay; None: all."""


def slices(analysis: Analysis, keep: Keep, held: Keep | None = None) -> Slices:
    """What stays of each tensor that shrinks, counted in what `held` has left of it. Tied names each have an entry."""
    found: Slices = {}
    for name, dims in analysis.tensors.items():
        indices: list[Tensor | None] = []
        for axis in dims:
            mask = kept(axis, keep)
            if held:
                mask = mask[kept(axis, held)]
            indices.append(None if mask.all() else torch.from_numpy(np.flatnonzero(mask)))
        if any(index is not None for index in indices):
            found[name] = indices
    return found


def sliced(tensor: Tensor, indices: list[Tensor | None]) -> Tensor:
    """A copy with what stays."""
    found = tensor.detach()
    for dim, index in enumerate(indices):
        if index is not None:
            found = found.index_select(dim, index.to(found.device))
    return found.clone() if found is tensor or found.data_ptr() == tensor.data_ptr() else found.contiguous()


def duplicate(graph: fx.GraphModule) -> fx.Graph:
    """A copy of its nodes, with the same names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, from its pytrees
        return copy.deepcopy(graph.graph)


def rewritten(graph: fx.GraphModule, analysis: Analysis, keep: Keep, held: Keep | None = None) -> fx.GraphModule:
    """A graph without what `keep` leaves out; `graph` is left alone, and shares the tensors that do not change.

    The nodes of `graph` are those of the analysis, as captured; its tensors have what `held` leaves of them.
    Raises UnwritableError where a size cannot be written.
    """
    new = fx.GraphModule(graph, duplicate(graph))
    for node in new.graph.nodes:
        if node.op == "call_function" and node.name not in analysis.opaque:
            found = operator_of(node.target)
            if found is not None and found.rewrite is not None and node.name in analysis.values:
                found.rewrite(Rewrite(node, analysis, keep))
    made: dict[str, Tensor] = {}
    for name, indices in slices(analysis, keep, held).items():
        first = analysis.first[name]
        if first not in made:
            old = attribute(graph, name)
            value = sliced(old, indices)
            made[first] = nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value
        set_tensor(new, name, made[first])
    new.recompile()
    return new


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
    """A graph of what `held` leaves, in which what `keep` leaves out is zero where it is made and where it is taken."""
    new = rewritten(graph, analysis, held, held) if held else fx.GraphModule(graph, graph.graph)
    for name, indices in slices(analysis, keep, held).items():
        old = attribute(graph, name)
        if not isinstance(old, nn.Parameter) or not old.is_floating_point():
            continue
        value = old.detach().clone()
        for dim, index in enumerate(indices):
            if index is not None and (analysis.first[name], dim) not in analysis.normalized:
                gone = torch.ones(value.shape[dim], dtype=torch.bool)
                gone[index] = False
                value.index_fill_(dim, gone.nonzero()[:, 0].to(value.device), 0.0)
        set_tensor(new, name, nn.Parameter(value, old.requires_grad))
    return new


@torch.no_grad()
def error(graph: fx.GraphModule, analysis: Analysis, keep: Keep, inputs: Tensor, held: Keep | None = None) -> float:
    """The oracle: the largest difference between units silenced and units removed, as a share of the largest output."""
    expected = first_tensor(silenced(graph, analysis, keep, held)(inputs))
    found = first_tensor(rewritten(graph, analysis, keep, held)(inputs))
    return off(found, expected)


def off(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest value that is expected; inf for other shapes, or for NaN."""
    if found.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    share = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-12)
    return share if math.isfinite(share) else math.inf


def first_tensor(outputs: object) -> Tensor:
    """A model's output; of several the first tensor."""
    if isinstance(outputs, Tensor):
        return outputs
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    return next(first_tensor(each) for each in values if each is not None)  # type: ignore[attr-defined]
