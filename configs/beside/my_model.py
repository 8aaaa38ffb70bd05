"""A model: any function that returns a torch.nn.Module.

It is given the `arguments` of the experiment file, and `inputs` (the shape of one sample) and `outputs` (how many
classes, or numbers, come out) because it takes them.
"""

from math import prod

from torch import nn


def build(inputs: tuple[int, ...], outputs: int, width: int = 64, dropout: float = 0.1) -> nn.Module:
    """Two layers of `width` units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(inputs), width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )
