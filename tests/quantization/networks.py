"""Small networks to be quantized, and the layers that they have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override


class Residual(nn.Module):
    """Convolutions with batch normalisation, one of them depthwise, one grouped, and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm_2 = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.head = nn.Linear(8, 5)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 5)."""
        stem = self.norm(self.stem(images)).relu()
        inner = self.grouped(self.norm_2(self.depthwise(stem)).relu())
        return self.head((stem + inner).relu().mean((2, 3)))


class Recurrent(nn.Module):
    """An LSTM (or GRU) whose last output goes through a linear layer."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU] = nn.LSTM) -> None:
        super().__init__()
        self.memory = kind(8, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    @override
    def forward(self, steps: Tensor) -> Tensor:
        """(B, N, 8) to (B, 3)."""
        return self.head(self.memory(steps)[0][:, -1])


class Transformer(nn.Module):
    """An embedding, one of torch's encoder layers, and a linear layer on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 3)

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N) int64 to (B, 3)."""
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


def mlp() -> nn.Module:
    """6 numbers to 3."""
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))


def images(count: int) -> Tensor:
    """(count, 1, 8, 8)"""
    return torch.randn(count, 1, 8, 8)


def steps(count: int) -> Tensor:
    """(count, 5, 8)"""
    return torch.randn(count, 5, 8)


def tokens(count: int) -> Tensor:
    """(count, 6) int64"""
    return torch.randint(20, (count, 6))


def rows(count: int) -> Tensor:
    """(count, 6)"""
    return torch.randn(count, 6)
