"""A captured graph in the place of the module that it was captured from: trained, evaluated and saved like one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from modelopt_cli.models.graph.analysis import attribute
from modelopt_cli.models.graph.listing import graph_of, listed

_aten = torch.ops.aten
# Where each operator says whether it is being trained. What the code did in training alone is not in the graph.
_TRAINING: Mapping[Any, int] = {
    _aten.batch_norm.default: 5,
    _aten.instance_norm.default: 5,
    _aten.dropout.default: 2,
    _aten.dropout_.default: 2,
    _aten.feature_dropout.default: 2,
    _aten.alpha_dropout.default: 2,
    _aten.lstm.input: 6,
    _aten.gru.input: 6,
    _aten.rnn_tanh.input: 6,
    _aten.rnn_relu.input: 6,
}


class Emitted(nn.Module):
    """Parameters and buffers have the names that they had in the original module."""

    _graph: fx.GraphModule

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self._take(graph)
        self._switches = [
            (node.name, _TRAINING[node.target], node.args[_TRAINING[node.target]])
            for node in graph.graph.nodes
            if node.op == "call_function" and node.target in _TRAINING and len(node.args) > _TRAINING[node.target]
        ]

    def _take(self, graph: fx.GraphModule) -> None:
        """Compute it. It is no submodule: its tensors, and the modules that hold them, are this module's."""
        self.__dict__["_graph"] = graph
        for held in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[held] = graph.__dict__[held]

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: the graph as plain values."""
        state = {name: value for name, value in self.__dict__.items() if name != "_graph"}
        return {**state, "_listing": listed(self._graph.graph)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From pickle."""
        super().__setstate__(
            {  # type: ignore[no-untyped-call]
                name: value for name, value in state.items() if name != "_listing"
            }
        )
        graph = fx.GraphModule(self, graph_of(state["_listing"]))
        for held in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            graph.__dict__[held] = self.__dict__[held]
        self._take(graph)

    def __deepcopy__(self, memo: dict[int, Any]) -> Emitted:
        """Its graph's tensors are its own."""
        twin = Emitted.__new__(Emitted)
        memo[id(self)] = twin
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, from its pytrees
            twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def forward(self, *inputs: Tensor) -> Any:
        """What the graph computes."""
        return self._graph(*inputs)

    def train(self, mode: bool = True) -> Emitted:
        """Dropout and batch normalization work as they do in training, or not."""
        super().train(mode)
        graph = self._graph
        named = {node.name: node for node in graph.graph.nodes} if self._switches else {}
        changed = False
        for name, index, evaluated in self._switches:
            node = named[name]
            own_statistics = node.target in (_aten.batch_norm.default, _aten.instance_norm.default) and evaluated
            wanted = True if own_statistics else mode
            changed |= node.args[index] != wanted
            node.update_arg(index, wanted)
        if changed:
            graph.recompile()
        return self

    @property
    def graph_module(self) -> fx.GraphModule:
        """The graph, with this module's tensors."""
        return self._graph

    @torch.no_grad()
    def become(self, graph: fx.GraphModule) -> None:
        """Compute what another rewriting of the same graph does, with its tensors; parameters stay the same objects."""
        for name in [*dict(self.named_parameters(remove_duplicate=False)), *dict(self.named_buffers())]:
            own, new = attribute(self, name), attribute(graph, name)
            own.data, own.grad = new.detach().clone() if new.data_ptr() == own.data_ptr() else new.detach(), None
        self._graph.graph = graph.graph
        self.train(self.training)
