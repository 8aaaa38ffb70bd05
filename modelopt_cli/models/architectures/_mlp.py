"""The module behind `mlp`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from modelopt_cli.models.architectures._layers import ACTIVATIONS

if TYPE_CHECKING:
    from modelopt_cli.models.architectures import Shapes
    from modelopt_cli.models.architectures.mlp import Mlp as Options


class Mlp(nn.Module):
    """Flatten, then linear (- batch norm) - activation (- dropout) for each hidden width, then linear."""

    def __init__(self, shapes: Shapes, options: Options) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Dropout(options.input_dropout)] if options.input_dropout else []
        width = math.prod(shapes.inputs)
        for hidden in options.hidden:
            layers.append(nn.Linear(width, hidden))
            if options.batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(ACTIVATIONS[options.activation]())
            if options.dropout:
                layers.append(nn.Dropout(options.dropout))
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, shapes.outputs))
        if options.initialization == "xavier_uniform":
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, *inputs) -> (B, outputs)."""
        logits: Tensor = self.layers(inputs.flatten(1))
        return logits
