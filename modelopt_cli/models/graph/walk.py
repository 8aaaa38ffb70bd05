"""Graphs of the same nodes, run side by side on all batches, node by node, so that one can be changed on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from modelopt_cli.core.work import counted
from modelopt_cli.models.graph.analysis import attribute

Values = list[dict[str, list[Any]]]
"""Of each graph: node's name -> its value for each batch, as long as a later node needs it."""
Visit = Callable[[Sequence[fx.Node], Values], None]


@torch.no_grad()
def walk(graphs: Sequence[fx.GraphModule], batches: Sequence[Tensor], visit: Visit) -> None:
    """Run all graphs in step. `visit` is called before each node is run, with that node of each graph.

    Graphs are rewritings of one another, so that their nodes have the same names and order.
    """
    nodes = [[node for node in graph.graph.nodes if node.op != "output"] for graph in graphs]
    last = {used.name: node.name for node in nodes[0] for used in node.all_input_nodes}
    values: Values = [{} for _ in graphs]
    for step in counted(zip(*nodes, strict=True), "operators of the model", len(nodes[0])):
        if step[0].op == "call_function":
            visit(step, values)
        for graph, node, own in zip(graphs, step, values, strict=True):
            own[node.name] = run_node(graph, node, own, batches)
        for used in step[0].all_input_nodes:
            if last[used.name] == step[0].name:
                for own in values:
                    own.pop(used.name, None)


def run_node(
    graph: fx.GraphModule, node: fx.Node, own: Mapping[str, list[Any]], batches: Sequence[Tensor]
) -> list[Any]:
    """The node's value for each batch, from those of the nodes before it."""
    if node.op == "placeholder":
        return list(batches)
    if node.op == "get_attr":
        return []  # looked up where it is used: a visit may have put another tensor in its place
    target: Any = node.target
    values = []
    for number in range(len(batches)):

        def value(each: fx.Node, number: int = number) -> Any:
            return attribute(graph, str(each.target)) if each.op == "get_attr" else own[each.name][number]

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)
        values.append(target(*args, **kwargs))
    return values


def writes(node: fx.Node) -> bool:
    """Whether the node changes a value that it is given."""
    schema = getattr(node.target, "_schema", None)
    return bool(getattr(schema, "is_mutable", False))
