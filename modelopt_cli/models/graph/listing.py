"""A graph as plain values, so that a module that computes it can be pickled: operators go by their names in torch.

torch's own pickling of a GraphModule traces its code anew: that of torch.export it cannot, and nodes get other names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class _Name:
    """Of a node, as an argument of another one."""

    name: str


@dataclass(frozen=True)
class _Slice:
    """Of Python: its bounds may be nodes."""

    bounds: tuple[Any, Any, Any]


@dataclass(frozen=True)
class _Constant:
    """Of torch, by its name: a memory format, which `torch.save` cannot pickle, or a layout."""

    name: str


@dataclass(frozen=True)
class Listing:
    """`nodes`: (kind, name, target, positional arguments, keyword arguments), as they are run.

    `layout`: the names of the inputs, and the structure of inputs and outputs where these are no single tensors.
    """

    nodes: tuple[tuple[str, str, Any, Any, Any], ...]
    layout: tuple[list[str], Any, Any] | None


def listed(graph: fx.Graph) -> Listing:
    """What the graph computes."""
    nodes = tuple(
        (node.op, node.name, _target_name(node.target), _plain(node.args), _plain(node.kwargs)) for node in graph.nodes
    )
    info = getattr(graph._codegen, "pytree_info", None)
    layout = None
    if info is not None:
        out = None if info.out_spec is None else _structure(info.out_spec)
        layout = list(info.orig_args), _structure(info.in_spec), out
    return Listing(nodes, layout)


def graph_of(listing: Listing) -> fx.Graph:
    """The graph again, with the same names. Raises AttributeError where this torch has not one of the operators."""
    graph = fx.Graph()
    if listing.layout is not None:
        inputs, taken, given = listing.layout
        out = None if given is None else _built(given)
        graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(inputs, _built(taken), out)))
    made: dict[str, fx.Node] = {}
    for kind, name, target, args, kwargs in listing.nodes:
        made[name] = graph.create_node(
            kind, _target(target), _with_nodes(args, made), _with_nodes(kwargs, made), name=name
        )
    return graph


def _target_name(target: Any) -> Any:
    """Python's own functions are pickled by their names; torch's operators cannot be."""
    if isinstance(target, torch._ops.OpOverload):
        return ("operator", target.namespace, target._schema.name.partition("::")[2], target._overloadname)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return ("higher order", str(target))
    return target


def _target(name: Any) -> Any:
    if not isinstance(name, tuple):
        return name
    if name[0] == "higher order":
        return getattr(torch.ops.higher_order, name[1])
    _, namespace, packet, overload = name
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)


def _mapped(value: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(_mapped(each, leaf) for each in value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, leaf) for key, each in value.items()}
    return leaf(value)


def _plain(value: Any) -> Any:
    def leaf(each: Any) -> Any:
        if isinstance(each, fx.Node):
            return _Name(each.name)
        if isinstance(each, torch.memory_format | torch.layout):
            return _Constant(str(each).removeprefix("torch."))
        return _Slice(_plain((each.start, each.stop, each.step))) if isinstance(each, slice) else each

    return _mapped(value, leaf)


def _with_nodes(value: Any, made: Mapping[str, fx.Node]) -> Any:
    def leaf(each: Any) -> Any:
        if isinstance(each, _Name):
            return made[each.name]
        if isinstance(each, _Constant):
            return getattr(torch, each.name)
        return slice(*_with_nodes(each.bounds, made)) if isinstance(each, _Slice) else each

    return _mapped(value, leaf)


def _structure(spec: Any) -> Any:
    """(): a leaf; else (type, what else the type must know, the structures within)."""
    return () if spec.is_leaf() else (spec.type, spec.context, [_structure(each) for each in spec.children()])


def _built(structure: Any) -> Any:
    if not structure:
        return pytree.tree_structure(0)
    kind, context, children = structure
    return pytree.TreeSpec(kind, context, [_built(each) for each in children])
