"""The networks that neuron pruning must take: one entry each, what it eats, and which parameters are its two ends.

`make("unet")` is such a network in eval mode, its weights random but such that its outputs depend on every unit;
`ZOO["unet"].inputs(3)` is a batch of three. Shapes in comments: B batch, C channels, H and W height and width, N
positions, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from modelopt_cli.models.architectures import Shapes

__all__ = ["ZOO", "Entry", "counted", "make", "prepare"]

VOCABULARY = 97
WORDS = 50


@dataclass(frozen=True)
class Entry:
    """A network, and what a benchmark or a test must know of it."""

    build: Callable[[], nn.Module]  # weights as its author draws them, from torch's global generator
    inputs: Callable[[int], Tensor]  # batch size -> a random batch, from torch's global generator
    output: tuple[str, ...]  # globs over names of parameters: the embeddings and the output layer
    slow: bool = False  # of full size
    needs: str | None = None  # a package beyond modelopt's own
    stays: str = ""  # why more than half of it stays, whatever one does


def make(name: str, seed: int = 0) -> nn.Module:
    """The named network, prepared; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return prepare(ZOO[name].build(), seed)


@torch.no_grad()
def prepare(module: nn.Module, seed: int = 0) -> nn.Module:
    """The same module in eval mode, its outputs made to depend measurably on every unit. Changes it in place.

    Running statistics become random, vectors (biases, scales) and constants are perturbed, and matrices that are drawn
    so small that activations fade from layer to layer (torch's default; transformers' standard deviation of 0.02) are
    scaled up. What no weights can help stays without effect: biases of keys, and biases before an instance norm.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    embeddings = {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding)}
    for parameter in module.parameters():
        spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
        if parameter.dim() == 1 or spread == 0.0:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            continue
        fan_in = 1 if id(parameter) in embeddings else parameter[0].numel()
        gain = spread * fan_in**0.5
        if gain < 1.0:
            parameter.mul_(2**0.5 / gain)  # He et al. 2015b: what keeps the scale of activations through ReLU
    return module.eval()


def counted(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(name, parameter) of those outside the embeddings and the output layer; a tied parameter counts once."""
    ends = ZOO[name].output
    for each, parameter in module.named_parameters():
        if not any(fnmatchcase(each, glob) for glob in ends):
            yield each, parameter


# Batches


def features(*shape: int) -> Callable[[int], Tensor]:
    """batch size -> (B, *shape), normal."""
    return lambda batch: torch.randn(batch, *shape)


def tokens(vocabulary: int, length: int) -> Callable[[int], Tensor]:
    """batch size -> (B, length), integers below `vocabulary`."""
    return lambda batch: torch.randint(0, vocabulary, (batch, length))


# Perceptrons and plain convolutional networks


def mlp() -> nn.Module:
    """(B, 20) -> (B, 5)."""
    return nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 24), nn.BatchNorm1d(24), nn.PReLU(24), nn.Linear(24, 5)
    )


class Slices(nn.Module):
    """Parts of one hidden layer, overlapping, go to layers that expect exactly their widths."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, 30)
        self.narrow = nn.Linear(10, 7)
        self.wide = nn.Linear(20, 7)
        self.head = nn.Linear(7, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 8) -> (B, 4)."""
        hidden = torch.relu(self.hidden(inputs))  # (B, 30)
        gate = torch.tanh(self.narrow(hidden[:, 20:]))
        return self.head(self.narrow(hidden[:, :10]) + self.wide(hidden[:, 10:]) * gate)


class LeNet(nn.Module):
    """LeNet-5 with max pooling; flattens with `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.linear1 = nn.Linear(256, 120)
        self.linear2 = nn.Linear(120, 84)
        self.linear3 = nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B, 10)."""
        maps = F.max_pool2d(F.relu(self.conv1(images)), 2)
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)  # (B, 16, 4, 4)
        hidden = maps.view(maps.size(0), -1)
        return self.linear3(F.relu(self.linear2(F.relu(self.linear1(hidden)))))


def vgg_bn() -> nn.Module:
    """(B, 3, 32, 32) -> (B, 10). Three stages of two convolutions, ReLU in place, two linear layers."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (16, 32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    classifier = [nn.Linear(4 * 64, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), *classifier)


# Residual networks


class BasicBlock(nn.Module):
    """He et al. 2015: shortcut A subsamples and pads with zero channels, B is a 1x1 convolution."""

    def __init__(self, channels: int, out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.padding = (out - channels) // 2
        self.shortcut: nn.Module | None = None
        if shortcut == "B" and channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H / stride, W / stride)."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        if self.shortcut is not None:
            maps = self.shortcut(maps)
        elif self.padding:
            maps = F.pad(maps[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(inner + maps)


class CifarResNet(nn.Module):
    """ResNet-14 for CIFAR."""

    def __init__(self, shortcut: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        blocks, channels = [], 16
        for out in (16, 32, 64):
            for _ in range(2):
                blocks.append(BasicBlock(channels, out, 1 if channels == out else 2, shortcut))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 10)."""
        maps = self.blocks(F.relu(self.bn(self.conv(images))))
        maps = F.avg_pool2d(maps, maps.size(3))
        return self.linear(maps.view(maps.size(0), -1))


class Bottleneck(nn.Module):
    """1x1, 3x3 (it has the stride), 1x1 to four times the width; torchvision's names."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, 4 width, H / stride, W / stride)."""
        inner = self.relu(self.bn1(self.conv1(maps)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        if self.downsample is not None:
            maps = self.downsample(maps)
        inner += maps
        return self.relu(inner)


class ResNet50(nn.Module):
    """Layout and names of torchvision's ResNet-50; `width` 64 is the original."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(width, width, 3, 1)
        self.layer2 = self._stage(4 * width, 2 * width, 4, 2)
        self.layer3 = self._stage(8 * width, 4 * width, 6, 2)
        self.layer4 = self._stage(16 * width, 8 * width, 3, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32 * width, classes)

    @staticmethod
    def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        rest = (Bottleneck(4 * width, width, 1) for _ in range(blocks - 1))
        return nn.Sequential(Bottleneck(channels, width, stride), *rest)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, classes)."""
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return self.fc(torch.flatten(self.avgpool(maps), 1))


class DenseBlock(nn.Module):
    """Every layer (norm, ReLU, 1x1 to four times the growth, norm, ReLU, 3x3) sees all maps before it."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number in range(layers):
            width = channels + number * growth
            layer = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4 * growth, 1, bias=False)]
            layer += [nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)]
            self.layers.append(nn.Sequential(*layer))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C + layers growth, H, W)."""
        parts = [maps]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        return torch.cat(parts, 1)


def densenet() -> nn.Module:
    """(B, 3, 16, 16) -> (B, 10). Two dense blocks with a transition between."""
    transition = [nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 24, 1, bias=False), nn.AvgPool2d(2)]
    last = [nn.BatchNorm2d(48), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10)]
    blocks = [DenseBlock(16, 8, 4), *transition, DenseBlock(24, 8, 3)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), *blocks, *last)


# Grouped convolutions


class SqueezeExcite(nn.Module):
    """Hu et al. 2018: channels scaled by what a small network makes of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return maps * torch.sigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(maps, 1)))))


class InvertedResidual(nn.Module):
    """Sandler et al. 2018, with squeeze-excite: expand, depthwise, project; a shortcut where shapes allow."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.squeeze = SqueezeExcite(hidden)
        self.project = nn.Conv2d(hidden, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.residual = stride == 1 and channels == out

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out, H / stride, W / stride)."""
        inner = F.relu6(self.bn1(self.expand(maps)))
        inner = self.squeeze(F.hardswish(self.bn2(self.depthwise(inner))))
        inner = self.bn3(self.project(inner))
        return maps + inner if self.residual else inner


class MobileNetV2(nn.Module):
    """Stem, four inverted residuals, a last 1x1 convolution, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        shapes = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2))
        self.blocks = nn.Sequential(*(InvertedResidual(*shape) for shape in shapes))
        self.last = nn.Sequential(nn.Conv2d(32, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU6())
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 10)."""
        maps = self.last(self.blocks(self.stem(images)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(maps, 1), 1))


class GroupedConv(nn.Module):
    """A ResNeXt block (four groups), then a grouped convolution that doubles its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.reduce = nn.Conv2d(16, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.grouped = nn.Conv2d(24, 24, 3, padding=1, groups=4, bias=False)
        self.bn2 = nn.BatchNorm2d(24)
        self.expand = nn.Conv2d(24, 16, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(16)
        self.widen = nn.Conv2d(16, 32, 3, 2, 1, groups=4)
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 16, 16) -> (B, 10)."""
        maps = F.relu(self.stem(images))
        inner = F.relu(self.bn1(self.reduce(maps)))
        inner = self.bn3(self.expand(F.relu(self.bn2(self.grouped(inner)))))
        maps = F.relu(self.widen(F.relu(maps + inner)))  # (B, 32, 8, 8)
        return self.head(F.adaptive_avg_pool2d(maps, 1).flatten(1))


class ShuffleUnit(nn.Module):
    """Zhang et al. 2018: grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1, shortcut."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.compress = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, channels, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        inner = F.relu(self.bn1(self.compress(maps)))
        batch, channels, height, width = inner.shape
        inner = inner.view(batch, self.groups, channels // self.groups, height, width)
        inner = inner.transpose(1, 2).reshape(batch, channels, height, width)
        return F.relu(maps + self.bn3(self.expand(self.bn2(self.depthwise(inner)))))


def shufflenet(channels: int, *groups: int) -> nn.Module:
    """(B, 3, 16, 16) -> (B, 5). Two shuffle units between plain convolutions."""
    first, second = (ShuffleUnit(channels, each) for each in groups)
    last = [nn.Conv2d(channels, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)]
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), first, nn.MaxPool2d(2), second, *last)


# Other convolutional networks


class UNet(nn.Module):
    """Ronneberger et al. 2015: transposed convolutions up, concatenated with what went down."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = self._stage(3, 8)
        self.down2 = self._stage(8, 16)
        self.bottom = self._stage(16, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 2, 2)
        self.merge2 = self._stage(32, 16)
        self.up1 = nn.ConvTranspose2d(16, 8, 2, 2)
        self.merge1 = self._stage(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    @staticmethod
    def _stage(channels: int, out: int) -> nn.Sequential:
        first = [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        return nn.Sequential(*first, nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 2, 32, 32)."""
        high = self.down1(images)
        middle = self.down2(F.max_pool2d(high, 2))
        low = self.bottom(F.max_pool2d(middle, 2))
        maps = self.merge2(torch.cat([self.up2(low), middle], 1))
        maps = self.merge1(torch.cat([high, self.up1(maps)], 1))
        return self.head(maps)


class ConvNextBlock(nn.Module):
    """Liu et al. 2022: depthwise 7x7, norm and two linear layers with channels last, a learned scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        inner = self.norm(self.depthwise(maps).permute(0, 2, 3, 1))  # (B, H, W, C)
        inner = self.project(F.gelu(self.expand(inner))).permute(0, 3, 1, 2)
        return maps + self.scale * inner


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of maps."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """Patches of 4x4, two stages, a norm, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), ChannelNorm(16, eps=1e-6))
        self.stage1 = nn.Sequential(ConvNextBlock(16), ConvNextBlock(16))
        self.downsample = nn.Sequential(ChannelNorm(16, eps=1e-6), nn.Conv2d(16, 32, 2, 2))
        self.stage2 = nn.Sequential(ConvNextBlock(32), ConvNextBlock(32))
        self.norm = nn.LayerNorm(32, eps=1e-6)
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 10)."""
        maps = self.stage2(self.downsample(self.stage1(self.stem(images))))
        return self.head(self.norm(maps.mean((-2, -1))))


class GroupNormPixelShuffle(nn.Module):
    """Group norm, instance norm and a learned scale; pixel shuffle makes four channels one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.norm1 = nn.GroupNorm(8, 32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.norm2 = nn.InstanceNorm2d(32, affine=True)
        self.scale = nn.Parameter(torch.ones(32, 1, 1))
        self.conv3 = nn.Conv2d(32, 16, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.conv4 = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 12, 12) -> (B, 4)."""
        maps = F.silu(self.norm1(self.conv1(images)))
        maps = maps + self.scale * F.silu(self.norm2(self.conv2(maps)))
        maps = F.silu(self.conv4(self.shuffle(self.conv3(maps))))  # (B, 6, 20, 20)
        return self.head(maps.flatten(2).mean(-1))


class ConvolutionalAttention(nn.Module):
    """Woo et al. 2018 (CBAM): channels scaled by their mean and maximum, then places by theirs."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels // 2)
        self.expand = nn.Linear(channels // 2, channels)
        self.places = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        pooled = self._shared(maps.mean((2, 3))) + self._shared(maps.amax((2, 3)))  # (B, C)
        maps = maps * torch.sigmoid(pooled)[:, :, None, None]
        over_channels = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)  # (B, 2, H, W)
        return maps * torch.sigmoid(self.places(over_channels))

    def _shared(self, pooled: Tensor) -> Tensor:
        return self.expand(F.relu(self.reduce(pooled)))


class WeightNormAttention(nn.Module):
    """Weight norm (a parametrization), standardised weights (computed in forward), CBAM, two paths concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = parametrizations.weight_norm(nn.Conv2d(16, 24, 3, padding=1))
        self.conv3 = nn.Conv2d(24, 16, 3, padding=1)
        self.attention = ConvolutionalAttention(16)
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 8, 8) -> (B, 4)."""
        first = F.relu(self.conv1(images))
        weight = self.conv3.weight - self.conv3.weight.mean((1, 2, 3), keepdim=True)
        maps = F.conv2d(F.relu(self.conv2(first)), weight, self.conv3.bias, padding=1)
        return self.head(torch.cat([first, self.attention(maps)], 1).mean((2, 3)))


# Attention


class VitBlock(nn.Module):
    """Pre-norm; queries, keys and values from one layer; four heads of twelve, written out as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(48)
        self.qkv = nn.Linear(48, 144)
        self.project = nn.Linear(48, 48)
        self.norm2 = nn.LayerNorm(48)
        self.linear1 = nn.Linear(48, 96)
        self.linear2 = nn.Linear(96, 48)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, N, 48) -> the same."""
        batch, positions, _ = hidden.shape
        qkv = self.qkv(self.norm1(hidden)).reshape(batch, positions, 3, 4, 12)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, 4, N, 12)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, positions, 48)
        hidden = hidden + self.project(mixed)
        return hidden + self.linear2(F.gelu(self.linear1(self.norm2(hidden))))


class Vit(nn.Module):
    """Patches of 8x8, a class token, two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 48))
        self.positions = nn.Parameter(torch.randn(1, 17, 48))
        self.blocks = nn.Sequential(VitBlock(), VitBlock())
        self.norm = nn.LayerNorm(48)
        self.classifier = nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 10)."""
        hidden = self.patches(images).flatten(2).transpose(1, 2)  # (B, 16, 48)
        token = self.token.expand(hidden.shape[0], -1, -1)
        hidden = torch.cat([token, hidden], 1) + self.positions
        return self.classifier(self.norm(self.blocks(hidden))[:, 0])


class EncoderLayer(nn.Module):
    """A linear layer, torch's own encoder layer (post-norm, nn.MultiheadAttention), the mean over positions, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(10, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 7, 10) -> (B, 5)."""
        return self.head(self.layer(self.embed(inputs)).mean(1))


class EinsumAttention(nn.Module):
    """Attention in einsum; the output projection is a bare parameter (heads, size, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(10, 16)
        self.query = nn.Linear(16, 24)
        self.key = nn.Linear(16, 24)
        self.value = nn.Linear(16, 24)
        self.out = nn.Parameter(0.2 * torch.randn(4, 6, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, N, 10) -> (B, N, 4)."""
        hidden = self.embed(inputs)
        batch, positions, _ = hidden.shape
        query, key, value = (layer(hidden).view(batch, positions, 4, 6) for layer in (self.query, self.key, self.value))
        scores = torch.einsum("bnhd,bmhd->bhnm", query, key).div(6**0.5).softmax(-1)
        return self.head(hidden + torch.einsum("bhnm,bmhd,hdo->bno", scores, value, self.out))


class MixerBlock(nn.Module):
    """Tolstikhin et al. 2021, its channels mixed by a gated linear unit that `chunk` takes apart."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.across1 = nn.Linear(positions, 2 * positions)
        self.across2 = nn.Linear(2 * positions, positions)
        self.norm2 = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, N, D) -> the same."""
        across = self.across2(F.gelu(self.across1(self.norm1(hidden).transpose(1, 2))))  # (B, D, N)
        hidden = hidden + across.transpose(1, 2)
        value, gate = self.gated(self.norm2(hidden)).chunk(2, dim=-1)
        return hidden + self.project(value * torch.sigmoid(gate))


class MlpMixer(nn.Module):
    """Two mixer blocks over ten positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.blocks = nn.Sequential(MixerBlock(10, 32), MixerBlock(10, 32))
        self.head = nn.Linear(32, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 10, 8) -> (B, 5)."""
        return self.head(self.blocks(self.embed(inputs)).mean(1))


# Recurrent networks, and parameters that serve twice


class Recurrent(nn.Module):
    """Embedding, two bidirectional layers, the mean over positions."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 24)
        self.recurrent = kind(24, 32, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 5)

    def forward(self, words: Tensor) -> Tensor:
        """(B, length) -> (B, 5)."""
        hidden, _ = self.recurrent(self.embedding(words))  # (B, length, 64)
        return self.head(hidden.mean(1))


class Lstm1(nn.Module):
    """One layer, one direction, a linear layer before it, and the last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.recurrent = nn.LSTM(12, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 6, 8) -> (B, 4)."""
        _, (last, _) = self.recurrent(torch.tanh(self.embed(inputs)))  # (1, B, 16)
        return self.head(last[-1])


class TiedEmbeddings(nn.Module):
    """The output layer's weight is the embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 24)
        self.linear1 = nn.Linear(24, 48)
        self.linear2 = nn.Linear(48, 24)
        self.head = nn.Linear(24, WORDS, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        """(B, length) -> (B, length, WORDS)."""
        hidden = self.embedding(words)
        return self.head(hidden + self.linear2(torch.relu(self.linear1(hidden))))


class SharedModule(nn.Module):
    """One layer used twice in a row (its inputs are its outputs), and one block used by two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 24)
        self.repeated = nn.Linear(24, 24)
        self.block = nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 24))
        self.left = nn.Linear(24, 16)
        self.right = nn.Linear(24, 16)
        self.head = nn.Linear(32, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 12) -> (B, 6)."""
        hidden = torch.relu(self.embed(inputs))
        hidden = torch.relu(self.repeated(torch.relu(self.repeated(hidden))))
        hidden = hidden + self.block(hidden)
        left, right = torch.relu(self.left(hidden)), torch.relu(self.right(self.block(hidden)))
        return self.head(torch.cat([left, right], -1))


# transformers: its models take keywords and give objects; a wrapper makes them one tensor to one tensor


class Wrapped(nn.Module):
    """A model of transformers, called with one tensor under `keyword`, of whose outputs one is taken."""

    def __init__(self, model: nn.Module, keyword: str, output: str = "logits", **fixed: Any) -> None:
        super().__init__()
        self.model = model
        self.keyword, self.output, self.fixed = keyword, output, fixed

    def forward(self, inputs: Tensor) -> Tensor:
        """Tokens (B, length) or images (B, 3, H, W) -> what the model names `output`."""
        answer: Tensor = getattr(self.model(**{self.keyword: inputs}, **self.fixed), self.output)
        return answer


def gpt2() -> nn.Module:
    """(B, length) -> (B, length, VOCABULARY)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=2, n_embd=48, n_head=4, vocab_size=VOCABULARY, n_positions=64, **_ends())
    return Wrapped(GPT2LMHeadModel(config), "input_ids", use_cache=False)


def gpt2_full() -> nn.Module:
    """GPT-2 with 124 million parameters: (B, length) -> (B, length, 50257)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return Wrapped(GPT2LMHeadModel(GPT2Config()), "input_ids", use_cache=False)


def bert() -> nn.Module:
    """(B, length) -> (B, 2)."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes: dict[str, Any] = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }
    config = BertConfig(**sizes, vocab_size=VOCABULARY, max_position_embeddings=64)
    return Wrapped(BertForSequenceClassification(config), "input_ids")


def llama_gqa() -> nn.Module:
    """(B, length) -> (B, length, VOCABULARY). Eight query heads share two heads of keys and values."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, **heads, vocab_size=VOCABULARY, max_position_embeddings=64, **_ends())
    return Wrapped(LlamaForCausalLM(config), "input_ids", use_cache=False)


def t5_encoder() -> nn.Module:
    """(B, length) -> (B, length, 32): no output layer, so the residual stream itself is the output."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return Wrapped(T5EncoderModel(config), "input_ids", "last_hidden_state")


def swin() -> nn.Module:
    """(B, 3, 32, 32) -> (B, 10). Windows of 4x4, shifted in every second block; a patch merging."""
    from transformers import SwinConfig, SwinForImageClassification

    stages: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "drop_path_rate": 0.0}
    config = SwinConfig(**stages, image_size=32, patch_size=4, window_size=4, num_labels=10)  # type: ignore[call-arg]
    return Wrapped(SwinForImageClassification(config), "pixel_values")


def _ends() -> dict[str, Any]:
    """Special tokens within the small vocabulary."""
    return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


# modelopt's own


def modelopt_mlp() -> nn.Module:
    """(B, 20) -> (B, 5)."""
    from modelopt_cli.models.architectures.mlp import Mlp

    return Mlp(hidden=(64, 32), batch_norm=True, dropout=0.1).build(Shapes((20,), 5, "classification"), 0)


def modelopt_cnn() -> nn.Module:
    """(B, 1, 28, 28) -> (B, 10). Flattened maps of 7x7, one hidden linear layer."""
    from modelopt_cli.models.architectures.cnn import Cnn

    options = Cnn(channels=(8, 16), convolutions=2, head="flatten", hidden=(32,))
    return options.build(Shapes((1, 28, 28), 10, "classification"), 0)


def modelopt_cifar_resnet() -> nn.Module:
    """(B, 3, 32, 32) -> (B, 10). ResNet-20, shortcut A."""
    from modelopt_cli.models.architectures.cifar_resnet import CifarResnet

    return CifarResnet().build(Shapes((3, 32, 32), 10, "classification"), 0)


def modelopt_transformer() -> nn.Module:
    """(B, 12) tokens -> (B, 5)."""
    from modelopt_cli.models.architectures.transformer import Transformer

    options = Transformer(width=32, depth=2, heads=4, feedforward=2)
    return options.build(Shapes((12,), 5, "classification", tokens=WORDS), 0)


CIFAR = features(3, 32, 32)

ZOO: dict[str, Entry] = {
    "mlp": Entry(mlp, features(20), ("5.*",)),
    "lenet": Entry(LeNet, features(1, 28, 28), ("linear3.*",)),
    "vgg_bn": Entry(vgg_bn, CIFAR, ("26.*",)),
    "cifar_resnet_a": Entry(lambda: CifarResNet("A"), CIFAR, ("linear.*",)),
    "cifar_resnet_b": Entry(lambda: CifarResNet("B"), CIFAR, ("linear.*",)),
    "resnet50": Entry(lambda: ResNet50(8, 10), CIFAR, ("fc.*",)),
    "resnet50_full": Entry(lambda: ResNet50(64, 1000), features(3, 224, 224), ("fc.*",), slow=True),
    "densenet": Entry(densenet, features(3, 16, 16), ("11.*",)),
    "mobilenet_v2": Entry(MobileNetV2, CIFAR, ("head.*",)),
    "grouped_conv": Entry(GroupedConv, features(3, 16, 16), ("head.*",)),
    "shufflenet": Entry(lambda: shufflenet(32, 4, 2), features(3, 16, 16), ("9.*",)),
    "shufflenet_interleaved": Entry(
        lambda: shufflenet(24, 4, 3), features(3, 16, 16), ("9.*",), stays="4 groups of 6 are no 4 groups of whole 4s"
    ),
    "unet": Entry(UNet, CIFAR, ("head.*",)),
    "convnext": Entry(ConvNext, CIFAR, ("head.*",)),
    "vit": Entry(Vit, CIFAR, ("token", "positions", "classifier.*")),
    "transformer_encoder_layer": Entry(EncoderLayer, features(7, 10), ("head.*",)),
    "gpt2": Entry(gpt2, tokens(VOCABULARY, 11), ("*.wte.*", "*.wpe.*", "*.lm_head.*"), needs="transformers"),
    "gpt2_full": Entry(
        gpt2_full, tokens(50257, 16), ("*.wte.*", "*.wpe.*", "*.lm_head.*"), slow=True, needs="transformers"
    ),
    "bert": Entry(bert, tokens(VOCABULARY, 11), ("*_embeddings.*", "*.classifier.*"), needs="transformers"),
    "llama_gqa": Entry(llama_gqa, tokens(VOCABULARY, 11), ("*.embed_tokens.*", "*.lm_head.*"), needs="transformers"),
    "t5_encoder": Entry(
        t5_encoder, tokens(VOCABULARY, 9), ("*.shared.*", "*.relative_attention_bias.*"), needs="transformers"
    ),
    "swin": Entry(swin, CIFAR, ("*.relative_position_bias_table", "*.classifier.*"), needs="transformers"),
    "lstm1": Entry(Lstm1, features(6, 8), ("head.*",)),
    "lstm2_bi": Entry(lambda: Recurrent(nn.LSTM), tokens(WORDS, 7), ("embedding.*", "head.*")),
    "gru2_bi": Entry(lambda: Recurrent(nn.GRU), tokens(WORDS, 7), ("embedding.*", "head.*")),
    "tied_embeddings": Entry(TiedEmbeddings, tokens(WORDS, 7), ("embedding.*", "head.*")),
    "shared_module": Entry(SharedModule, features(12), ("head.*",)),
    "mlp_mixer": Entry(MlpMixer, features(10, 8), ("head.*",)),
    "group_norm": Entry(GroupNormPixelShuffle, features(3, 12, 12), ("head.*",)),
    "einsum_attention": Entry(EinsumAttention, features(6, 10), ("head.*",)),
    "slices": Entry(Slices, features(8), ("head.*",)),
    "weight_norm": Entry(WeightNormAttention, features(3, 8, 8), ("head.*",)),
    "modelopt_mlp": Entry(modelopt_mlp, features(20), ("layers.8.*",)),
    "modelopt_cnn": Entry(modelopt_cnn, features(1, 28, 28), ("head.2.*",)),
    "modelopt_cifar_resnet": Entry(modelopt_cifar_resnet, CIFAR, ("linear.*",)),
    "modelopt_transformer": Entry(modelopt_transformer, tokens(WORDS, 12), ("embedding.*", "positions", "head.*")),
}
