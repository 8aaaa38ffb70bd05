"""Muon for matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field, Strict

from modelopt_cli.core.types import Count
from modelopt_cli.training.optimizers import Optimizer, _options

if TYPE_CHECKING:
    import torch


@final
class Muon(Optimizer):
    """Muon: orthogonalised momentum for 2-d parameters (Jordan et al., 2024), AdamW for all others.

    Convolution kernels, biases and norms go to AdamW, whose options start with `adamw_`. The schedule scales both
    learning rates.
    """

    lr: _options.NonNegative = Field(0.001, description="Learning rate of the 2-d parameters.")
    weight_decay: _options.NonNegative = Field(0.1, description=_options.DECOUPLED)
    momentum: _options.NonNegative = Field(0.95, description="Decay of the running average of gradients.")
    nesterov: bool = Field(True, description="Look ahead along the momentum.")
    ns_coefficients: Annotated[tuple[float, float, float], Strict(False)] = Field(
        (3.4445, -4.775, 2.0315), description="Polynomial of the Newton-Schulz iteration."
    )
    eps: _options.NonNegative = Field(1e-7, description=_options.EPS)
    ns_steps: Annotated[Count, Field(lt=100)] = Field(5, description="Newton-Schulz iterations in a step.")
    adjust_lr_fn: Literal["original", "match_rms_adamw"] | None = Field(
        None, description="How the rate follows a matrix's shape; match_rms_adamw: the size of AdamW's updates."
    )
    adamw_lr: _options.NonNegative = Field(0.001, description="Learning rate of all other parameters.")
    adamw_betas: _options.Betas = Field((0.9, 0.999), description=_options.BETAS)
    adamw_eps: _options.NonNegative = Field(1e-8, description=_options.EPS)
    adamw_weight_decay: _options.NonNegative = Field(0.01, description=_options.DECOUPLED)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """See the base class."""
        import torch

        from modelopt_cli.training.optimizers._combined import Combined

        given = list(parameters)
        inner = {name.removeprefix("adamw_"): value for name, value in self.arguments().items() if "adamw_" in name}
        own = {name: value for name, value in self.arguments().items() if not name.startswith("adamw_")}
        matrices = [parameter for parameter in given if parameter.ndim == 2]
        others = [parameter for parameter in given if parameter.ndim != 2]
        built: list[torch.optim.Optimizer] = []
        if matrices:
            built.append(torch.optim.Muon(matrices, **own))
        if others:
            built.append(torch.optim.AdamW(others, **inner))
        return built[0] if len(built) == 1 else Combined(built)
