"""An ONNX file as a module: what is measured is what the file itself answers, through ONNX Runtime."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override


class OnnxModule(nn.Module):
    """Runs the file on the CPU, in as many threads as torch has; gives its first output, (N, K)."""

    def __init__(self, content: bytes, batch: int | None = None) -> None:
        """`batch`: the only size of a batch that the file takes; others are filled up. None: it takes any."""
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._input, self._output = self._session.get_inputs()[0].name, self._session.get_outputs()[0].name
        self._batch = batch

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """(N, K), on the inputs' device."""
        parts = torch.split(inputs, self._batch) if self._batch else (inputs,)
        return torch.cat([self._run(part) for part in parts]).to(inputs.device)

    def _run(self, inputs: Tensor) -> Tensor:
        lacking = 0 if self._batch is None else self._batch - len(inputs)
        filled = torch.cat([inputs, inputs[:1].expand(lacking, *inputs.shape[1:])]) if lacking else inputs
        [outputs] = self._session.run([self._output], {self._input: filled.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(outputs)[: len(inputs)]
