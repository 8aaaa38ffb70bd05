"""Methods of quantization: how a float model becomes one of 8 bits, and what file that is. One file each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from modelopt_cli.core.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelopt_cli.quantization.layers import Quantizer

__all__ = ["Quantization"]


class Quantization(Strategy):
    """Base of all methods."""

    family: ClassVar[str] = "quantizations"
    suffix: ClassVar[str]
    """Of the file that comes out: `.onnx` or `.pt2`."""
    calibrated: ClassVar[bool] = False
    """Whether it looks at train samples, by which the ranges of activations are set."""
    fake: ClassVar[bool] = False
    """Whether a training can foresee what it rounds, so that there is a quantisation-aware recovery."""

    @abstractmethod
    def check(self) -> None:
        """Raise MissingExtraError where a package that it needs is not installed (or UsageError: is too old)."""

    @abstractmethod
    def quantizer(
        self, module: nn.Module, *, calibration: Tensor, example: Tensor, about: Mapping[str, Any]
    ) -> Quantizer:
        """The module, in evaluation mode, ready to be quantized.

        `calibration`: (N, *inputs) train samples. `example`: (B, *inputs), B at least 2. `about`: what the file tells
        of itself. Raises UsageError where the module cannot be exported, MissingExtraError as `check`.
        """
