"""The torch module that the model type `cifar_resnet` builds, with the parameter names of widespread checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from modelopt_cli.models.architectures._layers import image_shape

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, and new channels of zeros, half of them on each side."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.before, self.after, self.stride = new_channels // 2, new_channels - new_channels // 2, stride

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + new, H / stride, W / stride)."""
        return F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or channels != out:
            projection = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            self.shortcut = PaddedShortcut(out - channels, stride) if shortcut == "A" else projection

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H / stride, W / stride)."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(images)))))
        return F.relu(inner + self.shortcut(images))


class CifarResnet(nn.Module):
    """A 3x3 stem, three stages of (depth - 2) / 6 blocks, global average pooling, linear."""

    def __init__(self, shapes: Shapes, *, depth: int, width: int, shortcut: str) -> None:
        super().__init__()
        channels, _, _ = image_shape(shapes, "cifar_resnet")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, shapes.outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs)."""
        maps = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(images))))))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(maps, 1).flatten(1))
        return logits


def _stage(channels: int, out: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(channels, out, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(out, out, 1, shortcut) for _ in range(blocks - 1)))
