"""Running what was exported, without the model's code, to see whether it computes what the module does."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modelopt_cli.models.graph.surgery import difference

if TYPE_CHECKING:
    Outputs = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Check:
    """The largest difference from the module's outputs on a random batch, as a share of the largest; inf: it fails."""

    batch_size: int
    error: float
    reason: str = ""  # what it failed with


class Ran(nn.Module):
    """An exported file, read back. `runtime`: what runs it, with its version."""

    def __init__(self, content: bytes, suffix: str) -> None:
        super().__init__()
        self.runtime, self._outputs = (_onnx if suffix == ".onnx" else _pt2)(content)

    def forward(self, inputs: Tensor) -> Any:
        """Its outputs."""
        return self._outputs(inputs)


def checks(module: nn.Module, ran: Ran, batches: Sequence[Tensor]) -> list[Check]:
    """Compare both on each batch; the module is in evaluation mode."""
    outputs = []
    for batch in batches:
        try:
            outputs.append(Check(len(batch), difference(ran, module, batch)))
        except Exception as error:  # whatever a runtime raises
            lines = str(error).strip().splitlines()
            outputs.append(Check(len(batch), float("inf"), lines[0] if lines else type(error).__name__))
    return outputs


def _pt2(content: bytes) -> tuple[str, Outputs]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return f"torch.export {torch.__version__}", torch.export.load(io.BytesIO(content)).module()


def _onnx(content: bytes) -> tuple[str, Outputs]:
    """onnxruntime, which is fast; else the reference of the onnx package, which is always there."""
    try:
        import onnxruntime
    except ImportError:
        import onnx
        from onnx.reference import ReferenceEvaluator

        session: Any = ReferenceEvaluator(onnx.load_from_string(content))
        name, runtime = session.input_names[0], f"onnx.reference {onnx.__version__}"
    else:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        name, runtime = session.get_inputs()[0].name, f"onnxruntime {onnxruntime.__version__}"
    return runtime, lambda inputs: [torch.from_numpy(each) for each in session.run(None, {name: inputs.numpy()})]
