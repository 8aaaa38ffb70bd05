"""A small transformer encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from modelopt_cli.core.types import Count
from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


@final
class Transformer(Architecture):
    """Small pre-norm transformer encoder for tokens, sequences of numbers or image patches (Vaswani et al. 2017)."""

    builds_on_meta: ClassVar[bool] = True

    width: Count = Field(64, description="Features of a position; a multiple of heads.")
    depth: Count = Field(2, description="Encoder layers.")
    heads: Count = Field(4, description="Attention heads.")
    feedforward: Count = Field(4, description="Width of the feed-forward layer, in multiples of width.")
    patch: Count = Field(4, description="Side of image patches; divides height and width.")
    pooling: Literal["mean", "cls"] = Field(
        "mean", description="What the classifier sees: the mean, or a token of its own."
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.0, description="Share dropped in training.")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            fitting = max(self.width // self.heads, 1) * self.heads
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}; use width {fitting}")
        return self

    def build(self, shapes: Shapes, seed: int) -> Any:
        """(B, length) tokens, (B, length, features) or (B, C, H, W) -> (B, outputs)."""
        from modelopt_cli.models.architectures._transformer import Transformer as Module

        return Module(
            shapes,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            feedforward=self.feedforward,
            patch=self.patch,
            pooling=self.pooling,
            dropout=self.dropout,
        )
