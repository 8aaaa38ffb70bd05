"""The torch module that the model type `mlp` builds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from modelopt_cli.models.architectures._layers import ACTIVATIONS

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes


class Mlp(nn.Module):
    """Flatten, then linear (- batch norm) - activation (- dropout) for each hidden width, then linear."""

    def __init__(
        self,
        shapes: Shapes,
        *,
        hidden: Sequence[int],
        activation: str,
        dropout: float,
        input_dropout: float,
        batch_norm: bool,
        initialization: str,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Dropout(input_dropout)] if input_dropout else []
        width = math.prod(shapes.inputs)
        for out in hidden:
            layers.append(nn.Linear(width, out))
            if batch_norm:
                layers.append(nn.BatchNorm1d(out))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = out
        self.layers = nn.Sequential(*layers, nn.Linear(width, shapes.outputs))
        if initialization == "xavier_uniform":
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, *inputs) -> (B, outputs)."""
        logits: Tensor = self.layers(inputs.flatten(1))
        return logits
