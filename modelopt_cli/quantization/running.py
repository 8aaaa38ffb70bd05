"""A quantized file as a module again, from its bytes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def running(content: bytes, suffix: str) -> nn.Module:
    """What runs these very bytes, on the CPU; `suffix`: `.onnx`, or `.pt2` for an exported program of torch.

    Raises MissingExtraError where its runtime is not installed.
    """
    if suffix != ".onnx":
        from modelopt_cli.models.files.exported_files import Ran

        return Ran(content, suffix)
    from modelopt_cli.core.extras import require

    require("onnxruntime", "onnx")
    import onnxruntime

    from modelopt_cli.quantization.onnx.running import OnnxModule

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[0]
    return OnnxModule(content, size if isinstance(size, int) else None)
