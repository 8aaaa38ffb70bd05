"""Post-training quantization of weights, whose inputs are quantized as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

from pydantic import Field
from typing_extensions import override

from modelopt_cli.core.extras import require
from modelopt_cli.quantization.methods import Quantization

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.quantization.layers import Quantizer


@final
class Dynamic(Quantization):
    """Weights of 8 bits by ONNX Runtime, each batch's activations quantized as they come; for transformers and LSTMs.

    Needs no calibration. Linear layers, LSTMs and embeddings become integers, convolutions stay in float (their
    integer kernel, ConvInteger, is slower than the float one). A sample's outputs depend a little on the batch that it
    comes in, because one scale holds for all of the batch's activations. Extra: onnx.
    """

    extra: ClassVar[str] = "onnx"
    suffix: ClassVar[str] = ".onnx"

    per_channel: bool = Field(True, description="A scale for each output channel of a weight, in place of one for all.")
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
        from modelopt_cli.quantization.onnx.dynamic import DynamicQuantizer
        from modelopt_cli.quantization.onnx.float_model import FloatModel

        model = FloatModel(module, example, about)
        return DynamicQuantizer(model, per_channel=self.per_channel, reduce_range=self.reduce_range)
