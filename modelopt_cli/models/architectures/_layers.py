"""What several architectures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}


def image_shape(shapes: Shapes, model: str) -> tuple[int, int, int]:
    """(channels, height, width). Raises UsageError when samples are no images."""
    if len(shapes.inputs) != 3:
        raise UsageError(
            f"{model} takes images (channels, height, width), but a sample of this data has shape {shapes.inputs}; "
            "use data with images (for digits: shape: image), or the model mlp"
        )
    channels, height, width = shapes.inputs
    return channels, height, width
