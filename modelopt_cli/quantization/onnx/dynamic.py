"""ONNX Runtime's dynamic quantization: weights once, activations as they come."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar

from typing_extensions import override

from modelopt_cli.quantization.onnx.float_model import FloatModel
from modelopt_cli.quantization.onnx.quantizer import OnnxQuantizer


class DynamicQuantizer(OnnxQuantizer):
    """Weights symmetric int8, activations uint8 by the range of each batch."""

    kind: ClassVar[str] = "dynamic"
    operators: ClassVar[tuple[str, ...]] = ("Gemm", "MatMul", "LSTM", "Gather")

    def __init__(self, model: FloatModel, *, per_channel: bool, reduce_range: bool) -> None:
        super().__init__(model)
        self._per_channel, self._reduce_range = per_channel, reduce_range

    @override
    def _quantized(self, excluded: list[str]) -> Any:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
        from onnxruntime.quantization.quant_utils import QuantizationMode

        quantizer = ONNXQuantizer(
            deepcopy(self.model.proto),
            self._per_channel,
            self._reduce_range,
            QuantizationMode.IntegerOps,
            False,  # not static
            QuantType.QInt8,
            QuantType.QUInt8,
            None,
            [],
            [*excluded, *(f"{name}_MatMul" for name in excluded)],  # what a Gemm becomes is called so
            ["MatMul", "LSTM", "Gather"],
            {"WeightSymmetric": True, "MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        return quantizer.model.model
