"""A model as a file that runs without its code: an exported program of torch (.pt2), or ONNX."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMATS = (".pt2", ".onnx")


def export(module: nn.Module, example: Tensor, path: Path) -> None:
    """Write `module`, in evaluation mode, for batches of any size; the format is that of the path's suffix.

    `example`: (B, *inputs), B at least 2. A .pt2 is read by torch.export.load, and its module() can be trained on.
    Raises UsageError where the module cannot be captured, or the format's extra is not installed.
    """
    from modelopt_cli.models.graph.capture import exported

    program, dynamic = exported(module, example)
    if path.suffix == ".onnx":
        content = _onnx(program, example, dynamic=dynamic)
    elif path.suffix == ".pt2":
        content = _pt2(program)
    else:
        raise UsageError(f"{path} has the suffix '{path.suffix}'; name a file that ends in {' or '.join(FORMATS)}")
    write_whole(path, lambda stream: stream.write(content))


def _pt2(program: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, stream)
    return stream.getvalue()


def _onnx(program: Any, example: Tensor, *, dynamic: bool) -> bytes:
    import torch

    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UsageError(
            "writing ONNX needs the extra onnx, which is not installed; run: pip install 'modelopt-cli[onnx]'"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.onnx.export(program, (example,), dynamo=True, verbose=False)
    assert found is not None
    content: bytes = found.model_proto.SerializeToString()
    return content
