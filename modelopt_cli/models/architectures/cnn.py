"""A plain convolutional network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

from pydantic import Field, field_validator

from modelopt_cli.core.types import Count, Items
from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


@final
class Cnn(Architecture):
    """Convolutional network: conv - batch norm - activation blocks with pooling, then linear layers."""

    builds_on_meta: ClassVar[bool] = True

    channels: Annotated[Items[Count], Field(min_length=1)] = Field(
        (32, 64), description="Output channels of each block."
    )
    kernel: Count = Field(3, description="Side of the kernels; odd, so that the size is kept.")
    convolutions: Count = Field(1, description="Convolutions in each block.")
    pool: Literal["max", "average", "stride"] = Field("max", description="How each block halves height and width.")
    batch_norm: bool = Field(True, description="Batch normalization after each convolution.")
    activation: Literal["relu", "gelu", "tanh", "silu", "leaky_relu"] = Field("relu", description="After each layer.")
    head: Literal["average", "flatten"] = Field("average", description="How feature maps become features.")
    hidden: Items[Count] = Field((), description="Widths of linear layers before the last.")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.0, description="Share dropped before linear layers.")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"kernel is {value}, but must be odd; use {value + 1}")
        return value

    def build(self, shapes: Shapes, seed: int) -> Any:
        """(B, C, H, W) -> (B, outputs). Raises UsageError when an image is too small for its poolings."""
        from modelopt_cli.models.architectures._cnn import Cnn as Module

        return Module(
            shapes,
            channels=self.channels,
            kernel=self.kernel,
            convolutions=self.convolutions,
            pool=self.pool,
            batch_norm=self.batch_norm,
            activation=self.activation,
            head=self.head,
            hidden=self.hidden,
            dropout=self.dropout,
        )
