"""Linear layers in integers by torch, activations quantized as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from modelopt_cli.quantization.methods import Quantization

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.quantization.layers import Quantizer


@final
class DynamicTorch(Quantization):
    """Linear layers as int8 by torchao, each sample's activations quantized as they come; for torch on a GPU.

    The file is a program of torch (.pt2), which needs torchao where it is read (import torchao first): it calls
    torchao's operators. On a CPU `dynamic` is faster. Extra: torchao.
    """

    extra: ClassVar[str] = "torchao"
    suffix: ClassVar[str] = ".pt2"

    @override
    def check(self) -> None:
        """Raises MissingExtraError without torchao, UsageError where its version has no such configuration."""
        from modelopt_cli.quantization.torchao.package import configuration

        configuration("Int8DynamicActivationInt8WeightConfig")

    @override
    def quantizer(
        self, module: nn.Module, *, calibration: Tensor, example: Tensor, about: Mapping[str, Any]
    ) -> Quantizer:
        """See Quantization."""
        from modelopt_cli.quantization.torchao.package import configuration
        from modelopt_cli.quantization.torchao.quantizer import TorchaoQuantizer

        about = {**about, "requires": ["torchao"]}
        return TorchaoQuantizer(module, configuration("Int8DynamicActivationInt8WeightConfig"), example, about)
