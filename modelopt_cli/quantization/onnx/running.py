"""An ONNX file as a module, through ONNX Runtime."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from modelopt_cli.quantization.file_module import FileModule


class OnnxModule(FileModule):
    """In as many threads as torch has."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        [given], made = self._session.get_inputs(), self._session.get_outputs()[0]
        self._input, self._output = given.name, made.name
        self.batch = given.shape[0] if isinstance(given.shape[0], int) else None

    @override
    def run(self, inputs: Tensor) -> Tensor:
        """See FileModule."""
        [outputs] = self._session.run([self._output], {self._input: inputs.numpy()})
        return torch.from_numpy(outputs)
