"""A program of torch (.pt2) as a module."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from modelopt_cli.core.extras import require
from modelopt_cli.quantization.file_module import FileModule
from modelopt_cli.quantization.torchao.package import EXTRA, imported


class ProgramModule(FileModule):
    """Runs it by torch itself."""

    def __init__(self, content: bytes) -> None:
        """Raises MissingExtraError where the program calls torchao's operators, and torchao is not installed."""
        super().__init__()
        program = loaded(content)
        self._call = program.module().forward  # a program's module takes no .eval(), so it is no part of this one
        [given] = program.graph_signature.user_inputs
        [size] = [node.meta["val"].shape[0] for node in program.graph.nodes if node.name == given]
        self.batch = size if isinstance(size, int) else None

    @override
    def run(self, inputs: Tensor) -> Tensor:
        """See FileModule."""
        outputs = self._call(inputs)
        return outputs if isinstance(outputs, Tensor) else outputs[0]


def loaded(content: bytes) -> Any:
    """The program in a file. What is in a program's file is not packed, so its operators' names can be seen."""
    if b"torch.ops.torchao" in content:
        require("torchao", EXTRA)
        imported()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(io.BytesIO(content))
