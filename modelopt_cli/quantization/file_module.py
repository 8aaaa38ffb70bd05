"""A quantized file as a module: what is measured is what the file itself answers."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override


class FileModule(nn.Module):
    """Base of what runs a file's content on the CPU; gives its first output, (N, K). It has no parameters."""

    batch: int | None = None
    """The only size of a batch that the file takes, so that others are filled up; None: it takes any."""

    @abstractmethod
    def run(self, inputs: Tensor) -> Tensor:
        """The first output for a batch of a size that the file takes, on the CPU."""

    @override
    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """(N, K), on the inputs' device."""
        given = inputs.detach().cpu().contiguous()
        if self.batch is None:
            return self.run(given).to(inputs.device)
        parts = [self._filled(part, self.batch) for part in torch.split(given, self.batch)]
        return torch.cat(parts).to(inputs.device)

    def _filled(self, inputs: Tensor, size: int) -> Tensor:
        lacking = size - len(inputs)
        filled = torch.cat([inputs, inputs[:1].expand(lacking, *inputs.shape[1:])]) if lacking else inputs
        return self.run(filled)[: len(inputs)]
