"""The module behind `cnn`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.architectures._layers import ACTIVATIONS, image_shape

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.architectures.cnn import Cnn as Options


class Cnn(nn.Module):
    """Blocks that halve the size, a head that makes features, linear layers."""

    def __init__(self, shapes: Shapes, options: Options) -> None:
        super().__init__()
        channels, height, width = image_shape(shapes, "cnn")
        blocks = len(options.channels)
        if min(height, width) >> blocks < 1:
            raise UsageError(
                f"cnn: {blocks} blocks halve {height}x{width} images to nothing; "
                f"use at most {min(height, width).bit_length() - 1} channels entries for this size"
            )
        layers: list[nn.Module] = []
        for out in options.channels:
            layers += _block(channels, out, options)
            channels = out
        self.features = nn.Sequential(*layers)
        if options.head == "average":
            self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
            features = channels
        else:
            self.pool = nn.Identity()
            features = channels * _halved(height, blocks, options) * _halved(width, blocks, options)
        self.head = nn.Sequential(*_linears(features, shapes.outputs, options))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs)."""
        logits: Tensor = self.head(self.pool(self.features(images)).flatten(1))
        return logits


def _block(channels: int, out: int, options: Options) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for place in range(options.convolutions):
        last = place == options.convolutions - 1
        stride = 2 if last and options.pool == "stride" else 1
        bias = not options.batch_norm  # batch norm has a shift of its own
        layers.append(nn.Conv2d(channels, out, options.kernel, stride, options.kernel // 2, bias=bias))
        if options.batch_norm:
            layers.append(nn.BatchNorm2d(out))
        layers.append(ACTIVATIONS[options.activation]())
        channels = out
    if options.pool != "stride":
        layers.append(nn.MaxPool2d(2) if options.pool == "max" else nn.AvgPool2d(2))
    return layers


def _halved(size: int, times: int, options: Options) -> int:
    """Size after the blocks: strides round up, poolings down."""
    for _ in range(times):
        size = (size + 1) // 2 if options.pool == "stride" else size // 2
    return size


def _linears(width: int, outputs: int, options: Options) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for hidden in options.hidden:
        layers += [nn.Dropout(options.dropout)] if options.dropout else []
        layers += [nn.Linear(width, hidden), ACTIVATIONS[options.activation]()]
        width = hidden
    layers += [nn.Dropout(options.dropout)] if options.dropout else []
    return [*layers, nn.Linear(width, outputs)]
