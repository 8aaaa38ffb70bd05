"""Linear weights of 8 bits, computed with in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from modelopt_cli.quantization.methods import Quantization

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.quantization.layers import Quantizer


@final
class WeightOnly(Quantization):
    """Weights of linear layers as int8 by torchao, activations in float; for large linear layers where memory counts.

    The file is a program of torch (.pt2), which torch alone reads. Smaller, not faster: weights become float again when
    they are used. Extra: torchao.
    """

    extra: ClassVar[str] = "torchao"
    suffix: ClassVar[str] = ".pt2"

    @override
    def check(self) -> None:
        """Raises MissingExtraError without torchao, UsageError where its version has no such configuration."""
        from modelopt_cli.quantization.torchao.package import configuration

        configuration("Int8WeightOnlyConfig")

    @override
    def quantizer(
        self, module: nn.Module, *, calibration: Tensor, example: Tensor, about: Mapping[str, Any]
    ) -> Quantizer:
        """See Quantization."""
        from modelopt_cli.quantization.torchao.package import configuration
        from modelopt_cli.quantization.torchao.quantizer import TorchaoQuantizer

        return TorchaoQuantizer(module, configuration("Int8WeightOnlyConfig"), example, about)
