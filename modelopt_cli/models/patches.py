"""What a convolution multiplies its kernels with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def patches(
    inputs: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """(B, positions, in * kernel) of inputs (B, in, length) or (B, in, height, width), one number a dimension."""
    if len(kernel) == 1:
        inputs = inputs[:, :, None]
        kernel, stride, padding, dilation = (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
    columns = F.unfold(inputs, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))
    return columns.transpose(1, 2)
