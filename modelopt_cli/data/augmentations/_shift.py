"""Moving images by whole pixels, each by its own amount."""

from __future__ import annotations

from typing import Literal

import torch

Fill = Literal["zero", "edge", "reflect"]


def offsets(random: torch.Tensor, most: int) -> torch.Tensor:
    """(B,) uniform numbers in [0, 1) to whole numbers from -most to most, all equally likely."""
    return (random * (2 * most + 1)).long().clamp(max=2 * most) - most


def shift(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor, fill: Fill) -> torch.Tensor:
    """`out[b, :, y, x] = images[b, :, y - down[b], x - right[b]]`, outside by `fill`.

    images: (B, C, H, W); down, right: (B,) int64.
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - down[:, None]  # (B, H): where each row comes from
    columns = torch.arange(width, device=images.device) - right[:, None]  # (B, W)
    taken = images.gather(2, _inside(rows, height, fill)[:, None, :, None].expand_as(images))
    taken = taken.gather(3, _inside(columns, width, fill)[:, None, None, :].expand_as(images))
    if fill != "zero":
        return taken
    seen = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    return taken * seen


def _inside(positions: torch.Tensor, size: int, fill: Fill) -> torch.Tensor:
    """Positions mapped into [0, size): at the nearest edge, or mirrored at it (the edge itself not repeated)."""
    if fill == "reflect" and size > 1:
        positions = positions.abs() % (2 * (size - 1))
        positions = torch.minimum(positions, 2 * (size - 1) - positions)
    return positions.clamp(0, size - 1)
