"""A quantized file as a module again, from its bytes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelopt_cli.core.extras import require

if TYPE_CHECKING:
    from torch import nn


def running(content: bytes, suffix: str) -> nn.Module:
    """What runs these very bytes, on the CPU; `suffix`: `.onnx`, or `.pt2` for an exported program of torch.

    Raises MissingExtraError where its runtime is not installed.
    """
    if suffix != ".onnx":
        from modelopt_cli.quantization.torchao.program import ProgramModule

        return ProgramModule(content)
    require("onnxruntime", "onnx")
    from modelopt_cli.quantization.onnx.running import OnnxModule

    return OnnxModule(content)
