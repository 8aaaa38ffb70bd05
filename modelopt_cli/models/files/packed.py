"""Masks as bits, so that a checkpoint holds the masks of its pruned tensors at one bit a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def pack(mask: Tensor) -> Tensor:
    """Bits of a boolean mask (True stays), flattened in memory order, the first in the lowest bit of the first byte.

    uint8 of shape (ceil(n / 8),); spare bits are 0. The same as numpy.packbits(..., bitorder="little").
    """
    import numpy
    import torch

    return torch.from_numpy(numpy.packbits(mask.detach().cpu().bool().reshape(-1).numpy(), bitorder="little"))


def unpack(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """The boolean mask of this shape that was packed. Raises InputError when it has not that many bits."""
    import numpy
    import torch

    count = math.prod(shape)
    if packed.dtype != torch.uint8 or packed.shape != (-(-count // 8),):
        raise InputError(
            f"a mask of {count:,} weights takes {-(-count // 8):,} bytes, but there is a {packed.dtype} tensor of "
            f"shape {tuple(packed.shape)}; the checkpoint is damaged"
        )
    bits = numpy.unpackbits(packed.cpu().numpy(), count=count, bitorder="little")
    return torch.from_numpy(bits).bool().reshape(tuple(shape))


def pack_masks(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks of some weights; one that is just where its weight is not 0 takes no bits (an empty tensor)."""
    import torch

    nothing = torch.empty(0, dtype=torch.uint8)
    return {
        name: nothing if torch.equal(mask.cpu(), weights[name].detach().cpu() != 0) else pack(mask)
        for name, mask in masks.items()
    }


def unpack_masks(packed: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks that `pack_masks` packed, for the weights that are still there. Raises InputError."""
    return {
        name: weights[name].detach() != 0 if bits.numel() == 0 else unpack(bits, tuple(weights[name].shape))
        for name, bits in packed.items()
        if name in weights
    }
