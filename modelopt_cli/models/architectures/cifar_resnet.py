"""He et al.'s residual network for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from pydantic import Field, field_validator

from modelopt_cli.core.types import Count
from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


@final
class CifarResnet(Architecture):
    """Residual network for CIFAR-sized images, depth 6n+2 (He et al. 2015, section 4.2)."""

    builds_on_meta: ClassVar[bool] = True

    depth: Count = Field(20, description="Layers: 6n + 2, e.g. 20, 32, 44, 56, 110.")
    width: Count = Field(16, description="Channels of the first stage; doubled twice.")
    shortcut: Literal["A", "B"] = Field("A", description="A: subsampling and zero padding; B: 1x1 convolution.")

    @field_validator("depth")
    @classmethod
    def _six_n_plus_two(cls, value: int) -> int:
        if value < 8 or (value - 2) % 6:
            raise ValueError(f"depth is {value}, but must be 6n + 2; use {max(8, (value - 2) // 6 * 6 + 2)}")
        return value

    def build(self, shapes: Shapes, seed: int) -> Any:
        """(B, C, H, W) -> (B, outputs). Weights after He et al. 2015b (normal, fan in)."""
        from modelopt_cli.models.architectures._cifar_resnet import CifarResnet as Module

        return Module(shapes, depth=self.depth, width=self.width, shortcut=self.shortcut)
