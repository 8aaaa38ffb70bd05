"""Adafactor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field, Strict

from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class Adafactor(Optimizer):
    """Adafactor: second moments kept as row and column sums, for little memory (Shazeer and Stern, ICML 2018)."""

    lr: _options.NonNegative = Field(0.01, description=_options.LR)
    beta2_decay: Annotated[float, Field(le=0.0)] = Field(
        -0.8, description="Exponent by which the second moment's decay grows."
    )
    eps: Annotated[tuple[_options.NonNegative | None, _options.NonNegative], Strict(False)] = Field(
        (None, 0.001), description="Least squared gradient (null: the dtype's epsilon) and least parameter scale."
    )
    d: Annotated[float, Field(ge=1.0)] = Field(1.0, description="Largest root mean square of an update.")
    weight_decay: _options.NonNegative = Field(0.0, description=_options.DECOUPLED)
    foreach: bool | None = Field(None, description=_options.FOREACH)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        return torch.optim.Adafactor(parameters, **self.arguments())
