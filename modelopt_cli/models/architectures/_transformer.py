"""The torch module that the model type `transformer` builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


class Transformer(nn.Module):
    """Embedding with learned positions, pre-norm encoder layers, a last norm, pooling, linear."""

    def __init__(
        self,
        shapes: Shapes,
        *,
        width: int,
        depth: int,
        heads: int,
        feedforward: int,
        patch: int,
        pooling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding, length = _embedding(shapes, width, patch)
        self.pooling = pooling
        self.cls = nn.Parameter(torch.zeros(1, 1, width)) if pooling == "cls" else None
        # In place, which on the meta device is not a second of imports slower, as a product would be.
        self.positions = nn.Parameter(torch.randn(1, length + (self.cls is not None), width).mul_(0.02))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, heads, feedforward * width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, shapes.outputs)

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


def _embedding(shapes: Shapes, features: int, patch: int) -> tuple[nn.Module, int]:
    """The module that makes (B, length, features), and the length."""
    if shapes.tokens is not None and len(shapes.inputs) == 1:
        return nn.Embedding(shapes.tokens, features), shapes.inputs[0]
    if len(shapes.inputs) == 2:
        return nn.Linear(shapes.inputs[1], features), shapes.inputs[0]
    if len(shapes.inputs) == 3:
        channels, height, width = shapes.inputs
        if height % patch or width % patch:
            raise UsageError(
                f"transformer: patches of {patch} do not tile {height}x{width} images; use a patch that divides both"
            )
        return _Patches(channels, features, patch), (height // patch) * (width // patch)
    raise UsageError(
        f"transformer takes token sequences, sequences of features or images, but a sample has shape {shapes.inputs}; "
        "use the model mlp for tables"
    )


class _Attention(nn.Module):
    """Self-attention with nn.MultiheadAttention's parameters, names and initialization.

    It reads heads and their width from attributes, and its scale stays what the full width calls for, so that heads and
    features of heads can be taken out, which torch's own cannot.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.scale, self.dropout = self.head_width**-0.5, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, N, width) -> the same."""
        batch, positions, _ = hidden.shape
        projected = F.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        projected = projected.view(batch, positions, 3, self.heads, self.head_width)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, head width)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=self.scale)
        projected_back: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected_back


class _Layer(nn.Module):
    """A pre-norm encoder layer: what nn.TransformerEncoderLayer with norm_first and gelu computes, and its names."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = _Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, feedforward)
        self.dropout = nn.Dropout(dropout)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, N, width) -> the same."""
        hidden = hidden + self.dropout1(self.self_attn(self.norm1(hidden)))
        inner = self.dropout(F.gelu(self.linear1(self.norm2(hidden))))
        outputs: Tensor = hidden + self.dropout2(self.linear2(inner))
        return outputs
