"""The torch module that the model type `cnn` builds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.architectures._layers import ACTIVATIONS, image_shape

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


class Cnn(nn.Module):
    """Blocks that halve the size, a head that makes features, linear layers."""

    def __init__(
        self,
        shapes: Shapes,
        *,
        channels: Sequence[int],
        kernel: int,
        convolutions: int,
        pool: str,
        batch_norm: bool,
        activation: str,
        head: str,
        hidden: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        width_in, rows, columns = image_shape(shapes, "cnn")
        blocks = len(channels)
        if min(rows, columns) >> blocks < 1:
            raise UsageError(
                f"cnn: {blocks} blocks halve {rows}x{columns} images to nothing; "
                f"use at most {min(rows, columns).bit_length() - 1} channels entries for this size"
            )
        layers: list[nn.Module] = []
        for out in channels:
            for number in range(convolutions):
                stride = 2 if number == convolutions - 1 and pool == "stride" else 1
                bias = not batch_norm  # batch norm has a shift of its own
                layers.append(nn.Conv2d(width_in, out, kernel, stride, kernel // 2, bias=bias))
                layers += [nn.BatchNorm2d(out)] if batch_norm else []
                layers.append(ACTIVATIONS[activation]())
                width_in = out
            if pool != "stride":
                layers.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers)
        if head == "average":
            self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
            features = width_in
        else:
            self.pool = nn.Identity()
            up = pool == "stride"
            features = width_in * _halved(rows, blocks, up=up) * _halved(columns, blocks, up=up)
        self.head = nn.Sequential(*_linears(features, hidden, shapes.outputs, activation, dropout))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs)."""
        logits: Tensor = self.head(self.pool(self.features(images)).flatten(1))
        return logits


def _halved(size: int, times: int, *, up: bool) -> int:
    """Size after the blocks: strides round up, poolings down."""
    for _ in range(times):
        size = (size + 1) // 2 if up else size // 2
    return size


def _linears(width: int, hidden: Sequence[int], outputs: int, activation: str, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for out in hidden:
        layers += [nn.Dropout(dropout)] if dropout else []
        layers += [nn.Linear(width, out), ACTIVATIONS[activation]()]
        width = out
    layers += [nn.Dropout(dropout)] if dropout else []
    return [*layers, nn.Linear(width, outputs)]
