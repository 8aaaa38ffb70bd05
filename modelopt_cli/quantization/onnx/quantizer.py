"""What the two quantizers of ONNX Runtime share: layers by name, which of them became integers, the running file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from modelopt_cli.core.errors import UsageError
from modelopt_cli.quantization.layers import Layer, Quantizer
from modelopt_cli.quantization.onnx.float_model import FloatModel, strip, tensor_bytes

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.data.preprocessing import Preprocessing
    from modelopt_cli.data.raw import Task

_QUANTIZED = "_quantized"  # what the name of an integer weight ends with


class OnnxQuantizer(Quantizer):
    """Base of both. Nothing is written but in temporary folders."""

    suffix: ClassVar[str] = ".onnx"
    kind: ClassVar[str]  # as messages call it
    operators: ClassVar[tuple[str, ...]]
    """With weights: those that become integers."""

    def __init__(self, model: FloatModel) -> None:
        self.model = model

    @abstractmethod
    def _quantized(self, excluded: list[str]) -> Any:
        """A quantized copy of the graph; `excluded`: nodes that stay as they are."""

    @cached_property
    def _all(self) -> Any:
        """With no layer left out."""
        with _reported():
            return self._quantized([])

    @cached_property
    def layers(self) -> list[Layer]:  # type: ignore[override]
        """In the order of the graph; what is unsupported shows when all are quantized."""
        integer = _integer_nodes(self._all)
        return [
            Layer(node.name, node.operator, node.parameters, "" if node.node in integer else self._why(node.operator))
            for node in self.model.nodes
        ]

    def _why(self, operator: str) -> str:
        if operator in self.operators:
            return f"ONNX Runtime's {self.kind} quantization does not take this {operator}"
        return f"ONNX Runtime's {self.kind} quantization does not support {operator}"

    @override
    def content(self, left: Collection[str]) -> bytes:
        """With all layers in float, the float model's own."""
        if all(layer.unsupported or layer.name in left for layer in self.layers):
            return self.model.plain
        excluded = [node.node for node in self.model.nodes if node.name in left]
        if not excluded:
            proto = deepcopy(self._all)
        else:
            with _reported():
                proto = self._quantized(excluded)
        strip(proto)
        content: bytes = proto.SerializeToString()
        return content

    @override
    def deliverable(
        self,
        content: bytes,
        running: nn.Module,
        preprocessing: Preprocessing,
        task: Task,
        outputs: int,
        about: Mapping[str, Any],
    ) -> bytes:
        """See Quantizer."""
        from modelopt_cli.quantization.onnx.deliverable import deliverable

        return deliverable(content, running, preprocessing, task, outputs, about, self.model.batch)

    @override
    def running(self, content: bytes) -> nn.Module:
        """See OnnxModule."""
        from modelopt_cli.quantization.onnx.running import OnnxModule

        return OnnxModule(content)

    @override
    def tensor_bytes(self, content: bytes) -> int:
        """Of initializers and constants."""
        return tensor_bytes(content)


def _integer_nodes(proto: Any) -> set[str]:
    """The nodes of the float graph whose weights are integers in the quantized one."""
    integers = {
        tensor.name for tensor in proto.graph.initializer if tensor.name.endswith(_QUANTIZED)
    }  # int8 and uint8 alike
    given = {node.output[0]: node for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    names = set()
    for node in proto.graph.node:
        sources = {given[name].input[0] if name in given else name for name in node.input}
        if sources & integers and node.op_type != "DequantizeLinear":
            name = node.name.removesuffix("_quant")
            names |= {node.name, name, name.removesuffix("_MatMul")}  # what a Gemm becomes is called so
    return names


@contextmanager
def _reported() -> Iterator[None]:
    """Nothing of what ONNX Runtime logs and prints; what it raises is one error that says what can be done."""
    from modelopt_cli.models.graph.capture import quiet

    try:
        with quiet():
            yield
    except Exception as error:  # whatever it raises for a graph that it does not take
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise UsageError(
            f"ONNX Runtime cannot quantize the model: {reason}; try another quantization.method, or name the layers "
            "that are to stay in float in quantization.exclude"
        ) from error
