"""The module behind `transformer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.architectures.transformer import Transformer as Options


class Transformer(nn.Module):
    """Embedding with learned positions, pre-norm encoder layers, a last norm, pooling, linear."""

    def __init__(self, shapes: Shapes, options: Options) -> None:
        super().__init__()
        self.embedding, length = _embedding(shapes, options)
        self.pooling = options.pooling
        self.cls = nn.Parameter(torch.zeros(1, 1, options.width)) if options.pooling == "cls" else None
        self.positions = nn.Parameter(0.02 * torch.randn(1, length + (self.cls is not None), options.width))
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.ModuleList(_layer(options) for _ in range(options.depth))
        self.norm = nn.LayerNorm(options.width)
        self.head = nn.Linear(options.width, shapes.outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, *inputs) -> (B, outputs)."""
        hidden = self.embedding(inputs)  # (B, length, width)
        if self.cls is not None:
            hidden = torch.cat([self.cls.expand(hidden.shape[0], -1, -1), hidden], dim=1)
        hidden = self.dropout(hidden + self.positions)
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = self.norm(hidden)
        logits: Tensor = self.head(hidden[:, 0] if self.pooling == "cls" else hidden.mean(dim=1))
        return logits


class _Patches(nn.Module):
    """Images to a sequence of embedded patches."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, patches, width)."""
        maps: Tensor = self.project(images)
        return maps.flatten(2).transpose(1, 2)


def _embedding(shapes: Shapes, options: Options) -> tuple[nn.Module, int]:
    """The module that makes (B, length, width), and the length."""
    if shapes.tokens is not None and len(shapes.inputs) == 1:
        return nn.Embedding(shapes.tokens, options.width), shapes.inputs[0]
    if len(shapes.inputs) == 2:
        return nn.Linear(shapes.inputs[1], options.width), shapes.inputs[0]
    if len(shapes.inputs) == 3:
        channels, height, width = shapes.inputs
        if height % options.patch or width % options.patch:
            raise UsageError(
                f"transformer: patches of {options.patch} do not tile {height}x{width} images; "
                "use a patch that divides both"
            )
        return _Patches(channels, options.width, options.patch), (height // options.patch) * (width // options.patch)
    raise UsageError(
        f"transformer takes token sequences, sequences of features or images, but a sample has shape {shapes.inputs}; "
        "use the model mlp for tables"
    )


def _layer(options: Options) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        options.width,
        options.heads,
        options.feedforward * options.width,
        options.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
