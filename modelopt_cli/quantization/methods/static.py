"""Post-training quantization of weights and activations, whose ranges are calibrated on train samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

from pydantic import Field
from typing_extensions import override

from modelopt_cli.core.extras import require
from modelopt_cli.quantization.methods import Quantization

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.quantization.layers import Quantizer


@final
class Static(Quantization):
    """Weights and activations of 8 bits by ONNX Runtime, ranges calibrated on train samples; for MLPs and CNNs.

    The file holds QuantizeLinear and DequantizeLinear nodes (QDQ) around the float operators, which ONNX Runtime
    computes in integers. Weights are symmetric int8, activations uint8 with a zero point. Extra: onnx.
    """

    extra: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"
    calibrated: ClassVar[bool] = True
    fake: ClassVar[bool] = True

    per_channel: bool = Field(True, description="A scale for each output channel of a weight, in place of one for all.")
    calibration: Literal["minmax", "entropy", "percentile"] = Field(
        "minmax",
        description="An activation's range: all that was seen, the range that keeps most of its distribution "
        "(least Kullback-Leibler divergence), or a percentile of it.",
    )
    percentile: Annotated[float, Field(gt=50.0, le=100.0)] = Field(
        99.99, description="With calibration percentile: the share of values, in percent, that the range holds."
    )
    reduce_range: bool = Field(
        False, description="Weights of 7 bits, for CPUs without VNNI, where sums of products of 8 bits may saturate."
    )

    @override
    def check(self) -> None:
        """Raises MissingExtraError without onnx, onnxscript or onnxruntime."""
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package, "onnx")

    @override
    def quantizer(
        self, module: nn.Module, *, calibration: Tensor, example: Tensor, about: Mapping[str, Any]
    ) -> Quantizer:
        """See Quantization."""
        self.check()
        from modelopt_cli.quantization.onnx.float_model import FloatModel
        from modelopt_cli.quantization.onnx.static import StaticQuantizer

        return StaticQuantizer(
            FloatModel(module, example, about),
            calibration,
            method=self.calibration,
            percentile=self.percentile,
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
        )
