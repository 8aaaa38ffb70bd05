"""Field types that optimizers share, with torch's own bounds."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field, Strict

NonNegative = Annotated[float, Field(ge=0.0)]
Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Pair = Annotated[tuple[float, float], Strict(False)]
Betas = Annotated[tuple[Beta, Beta], Strict(False)]

LR = "Learning rate: the step size before the schedule's factor."
WEIGHT_DECAY = "L2 penalty, added to the gradient."
DECOUPLED = "Weight decay, applied to the weights and not through the gradient."
BETAS = "Decay of the running averages of the gradient and of its square."
EPS = "Added to the denominator for numerical stability."
FOREACH = "Update all parameters in a few multi-tensor calls; null: torch decides."
FUSED = "Update all parameters in one fused kernel; null: where torch has one for the parameters."

Model = TypeVar("Model")


def one_implementation(model: Model, foreach: bool | None, fused: bool | None) -> Model:
    """`model`; raises ValueError when both special implementations are asked for, as torch does."""
    if foreach and fused:
        raise ValueError("foreach and fused are both true, but an update has one implementation; set one of them")
    return model
