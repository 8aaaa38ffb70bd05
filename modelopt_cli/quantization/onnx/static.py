"""ONNX Runtime's static quantization: ranges measured once, then any choice of layers without measuring again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from typing_extensions import override

from modelopt_cli.core.work import counted
from modelopt_cli.quantization.onnx.float_model import FloatModel
from modelopt_cli.quantization.onnx.quantizer import OnnxQuantizer

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Gather")
_BETWEEN = (
    *("Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Concat", "Split", "Pad", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Resize"),
)
"""Operators without weights that compute in integers, too, so that nothing goes to float and back between layers.
Softmax and normalisation are left in float: they lose much and save little."""
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_KEEP_MAPS = (
    *("Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "BatchNormalization"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Split", "Pad", "Slice", "Resize"),
)
_BATCH = 64  # samples that ranges are measured on at a time


class StaticQuantizer(OnnxQuantizer):
    """Weights symmetric int8, activations uint8 with a zero point."""

    kind: ClassVar[str] = "static"
    operators: ClassVar[tuple[str, ...]] = _LAYERS

    def __init__(
        self,
        model: FloatModel,
        calibration: Tensor,
        *,
        method: Literal["minmax", "entropy", "percentile"],
        percentile: float,
        per_channel: bool,
        reduce_range: bool,
    ) -> None:
        """`calibration`: (N, *inputs)."""
        super().__init__(model)
        self._calibration, self._method, self._percentile = calibration, method, percentile
        self._per_channel, self._reduce_range = per_channel, reduce_range

    @property
    def _operators(self) -> list[str]:
        return [*_LAYERS, *_BETWEEN]

    @cached_property
    def _ranges(self) -> Any:
        """Of every activation; measured in a temporary folder, because ONNX Runtime reads the graph from a file."""
        import onnx
        from onnxruntime.quantization import CalibrationMethod, create_calibrator

        methods = {
            "minmax": CalibrationMethod.MinMax,
            "entropy": CalibrationMethod.Entropy,
            "percentile": CalibrationMethod.Percentile,
        }
        options: dict[str, Any] = {"percentile": self._percentile} if self._method == "percentile" else {}
        if self._method != "minmax":
            options["symmetric"] = False
        with tempfile.TemporaryDirectory(prefix="modelopt-") as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(self.model.proto, path)
            calibrator = create_calibrator(
                path,
                self._operators,
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=methods[self._method],
                extra_options=options,
            )
            name = self.model.proto.graph.input[0].name
            for batch in counted(list(self._batches()), "calibration batches"):
                calibrator.collect_data(_Reader(name, batch))
            return calibrator.compute_data()

    def _batches(self) -> Iterator[np.ndarray]:
        """Of one size alone where the graph takes no other."""
        import torch

        size = self.model.batch or _BATCH
        for part in torch.split(self._calibration, size):
            if self.model.batch is None or len(part) == size:
                yield part.cpu().contiguous().numpy()

    @cached_property
    def _in_float(self) -> list[str]:
        """Sums and products that no convolution leads to, or with a constant.

        In a transformer they would spoil what the layers are fed with (shortcuts, masks of -inf, a root mean square),
        and a bias that is added to a product would be one of 8 bits.
        """
        constants = {tensor.name for tensor in self.model.proto.graph.initializer}
        maps: set[str] = set()  # outputs of convolutions, and what comes of them channel by channel
        left = []
        for node in self.model.proto.graph.node:
            led = bool(maps & {*node.input})
            if node.op_type in ("Add", "Mul") and (not led or constants & {*node.input}):
                left.append(node.name)
            if node.op_type in _CONVOLUTIONS or (led and node.op_type in _KEEP_MAPS):
                maps |= {*node.output}
        return left

    @override
    def _quantized(self, excluded: list[str]) -> Any:
        from onnxruntime.quantization import QDQQuantizer, QuantType

        quantizer = QDQQuantizer(
            deepcopy(self.model.proto),
            self._per_channel,
            self._reduce_range,
            QuantType.QInt8,
            QuantType.QUInt8,
            self._ranges,
            [],
            [*excluded, *self._in_float],
            self._operators,
            {"WeightSymmetric": True, "ActivationSymmetric": False, "MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        _leave_outputs(quantizer.model.model)
        quantizer.model.clean_initializers()
        return quantizer.model.model


def _leave_outputs(proto: Any) -> None:
    """The outputs of a last linear layer stay as they come, float: rounded to 8 bits, two of them could be equal."""
    made = {output: node for node in proto.graph.node for output in node.output}
    for output in proto.graph.output:
        back = made[output.name]
        down = made.get(back.input[0]) if back.op_type == "DequantizeLinear" else None
        layer = made.get(down.input[0]) if down is not None and down.op_type == "QuantizeLinear" else None
        if down is None or layer is None or layer.op_type not in ("Gemm", "MatMul"):
            continue
        if sum(name in (down.input[0], down.output[0]) for node in proto.graph.node for name in node.input) > 2:
            continue  # something else takes it, too
        layer.output[:] = [output.name if name == down.input[0] else name for name in layer.output]
        proto.graph.node.remove(back)
        proto.graph.node.remove(down)


class _Reader:
    """One batch, as ONNX Runtime's calibration asks for it."""

    def __init__(self, name: str, batch: np.ndarray) -> None:
        self._feeds = [{name: batch}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The batch once, then None."""
        return self._feeds.pop() if self._feeds else None
