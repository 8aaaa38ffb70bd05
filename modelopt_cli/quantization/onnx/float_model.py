"""A torch module as an ONNX graph of floats, whose layers go by the names that they have in the module."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelopt_cli.models.files.exporting import exported_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

_WEIGHT = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "LSTM": 1, "GRU": 1, "RNN": 1, "Gather": 0}
"""Operators that have weights -> which of their inputs that is. Of the recurrent ones the next one, too."""
_RECURRENT = ("LSTM", "GRU", "RNN")
_SCOPES = "pkg.torch.onnx.name_scopes"  # the exporter's note of the modules around an operator, outermost first


class Node:
    """An operator with weights. `name`: of the layer in the module; `node`: of the operator in the graph."""

    def __init__(self, name: str, proto: Any, parameters: int) -> None:
        self.name, self.node, self.operator, self.parameters = name, str(proto.name), str(proto.op_type), parameters


class FloatModel:
    """The exported module; batch normalisation after a convolution is folded into it by the exporter."""

    def __init__(self, module: nn.Module, example: Tensor, about: Mapping[str, Any]) -> None:
        """Raises UsageError where the module cannot be exported, MissingExtraError without onnx."""
        import onnx

        from modelopt_cli.models.files.exporting import check_onnx

        check_onnx()
        self.example = example
        self.content, self.dynamic = exported_bytes(module, example, ".onnx", about)
        self.proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(self.content))
        names = [name for name, _ in module.named_parameters()]
        self._parameters = {*names, *(name for name, _ in module.named_buffers())}

    @cached_property
    def plain(self) -> bytes:
        """The file of floats alone."""
        from copy import deepcopy

        proto = deepcopy(self.proto)
        strip(proto)
        content: bytes = proto.SerializeToString()
        return content

    @property
    def batch(self) -> int | None:
        """The only size of a batch that it takes; None: any."""
        return None if self.dynamic else len(self.example)

    @cached_property
    def nodes(self) -> list[Node]:
        """Its operators with weights, in the order of the graph."""
        weights = {tensor.name: tensor for tensor in self.proto.graph.initializer}
        seen: Counter[str] = Counter()
        nodes = []
        for proto in self.proto.graph.node:
            held = [weights[name] for name in _weights(proto) if name in weights]
            if not held or any(tensor.data_type not in _float_types() for tensor in held) or not _is_layer(proto, held):
                continue
            name = self._name(proto, held[0].name)
            seen[name] += 1
            name = name if seen[name] == 1 else f"{name}#{seen[name]}"
            nodes.append(Node(name, proto, sum(_size(tensor) for tensor in held)))
        return nodes

    def _name(self, proto: Any, weight: str) -> str:
        """By the weight, which keeps its name in the module; else by the modules around it; else the graph's own."""
        if weight in self._parameters:
            return weight.removesuffix(".weight")
        noted = {entry.key: entry.value for entry in proto.metadata_props}.get(_SCOPES, "[]")
        try:
            scopes = [str(scope) for scope in ast.literal_eval(noted)]
        except (ValueError, SyntaxError):
            scopes = []
        inside = [scope for scope in scopes[:-1] if scope]  # the last one is the operator's own
        return inside[-1] if inside else str(proto.name)


def _weights(proto: Any) -> Iterator[str]:
    """The names of the inputs that weights may be."""
    at = _WEIGHT.get(proto.op_type)
    if at is None:
        return
    last = at + 1 if proto.op_type in _RECURRENT else at
    yield from proto.input[at : last + 1]


def _is_layer(proto: Any, held: Collection[Any]) -> bool:
    """Of a Gather: a table of rows, as an embedding is, and no list of numbers that is looked up."""
    return proto.op_type != "Gather" or all(len(tensor.dims) == 2 for tensor in held)


def _float_types() -> tuple[int, ...]:
    import onnx

    return (onnx.TensorProto.FLOAT,)


def _size(tensor: Any) -> int:
    size = 1
    for dim in tensor.dims:
        size *= int(dim)
    return size


def tensor_bytes(content: bytes) -> int:
    """The bytes of all tensors in an ONNX file."""
    import onnx

    graph = onnx.load_from_string(content).graph
    constants = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in (*graph.initializer, *constants))


def strip(proto: Any) -> None:
    """Without the exporter's notes on each operator and the shapes in between, which can outweigh small weights."""
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
