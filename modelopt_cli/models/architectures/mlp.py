"""The multilayer perceptron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.core.types import Count, Items
from modelopt_cli.models.architectures import Architecture

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


@final
class Mlp(Architecture):
    """Multilayer perceptron: linear layers with an activation between; flattens its input."""

    builds_on_meta: ClassVar[bool] = True

    hidden: Items[Count] = Field((128,), description="Widths of the hidden layers; [] is a linear model.")
    activation: Literal["relu", "gelu", "tanh", "silu", "leaky_relu"] = Field(
        "relu", description="After each hidden layer."
    )
    dropout: Share = Field(0.0, description="Share of hidden units dropped in training.")
    input_dropout: Share = Field(0.0, description="Share of inputs dropped in training.")
    batch_norm: bool = Field(False, description="Batch normalization before each activation.")
    initialization: Literal["default", "xavier_uniform"] = Field(
        "default", description="default: torch's own; xavier_uniform: Glorot's, with zero biases, as Keras has it."
    )

    def build(self, shapes: Shapes, seed: int) -> Any:
        """(B, *inputs) -> (B, outputs). Weights are uniform: within torch's bound (Kaiming), or Glorot's."""
        from modelopt_cli.models.architectures._mlp import Mlp as Module

        return Module(
            shapes,
            hidden=self.hidden,
            activation=self.activation,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            batch_norm=self.batch_norm,
            initialization=self.initialization,
        )
