"""Random numbers by counter: the same for (seed, epoch, sample index, stream) on every device and in every batch.

SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") read as a function of its
counter. The start comes from (seed, epoch, stream), mixed in Python; only the last step is computed on tensors, in
int64 arithmetic that wraps around, so that CPU and CUDA agree bit for bit.
"""

from __future__ import annotations

import torch

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def uniform(seed: int, epoch: int, indices: torch.Tensor, stream: int, width: int = 8) -> torch.Tensor:
    """(B, width) float32 in [0, 1), on the device of `indices` (B,) int64; 24 random bits each."""
    lanes = torch.arange(1, width + 1, device=indices.device)
    counter = indices.to(torch.int64)[:, None] * width + lanes  # (B, width), from 1 as the generator counts
    bits = _mix_tensor(counter * _signed(_GOLDEN) + _signed(start(seed, epoch, stream)))
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24


def start(seed: int, epoch: int, stream: int) -> int:
    """The generator's 64-bit start for these three numbers."""
    state = 0
    for key in (seed, epoch, stream):
        state = _mix((state ^ (key & _MASK)) + _GOLDEN)
    return state


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def _mix_tensor(value: torch.Tensor) -> torch.Tensor:
    value = (value ^ _shift_right(value, 30)) * _signed(_FIRST)
    value = (value ^ _shift_right(value, 27)) * _signed(_SECOND)
    return value ^ _shift_right(value, 31)


def _shift_right(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift: int64's own one would drag the sign along."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
