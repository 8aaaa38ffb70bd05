"""A model: any function that returns a torch.nn.Module.

It is given the `arguments` of the experiment file, and `inputs` and `outputs` (how many numbers go in, how many classes
come out) because it takes them.
"""

from torch import nn


def build(inputs: int, outputs: int, width: int = 64, dropout: float = 0.1) -> nn.Module:
    """Two layers of `width` units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )
