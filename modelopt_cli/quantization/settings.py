"""The `quantization:` section: by which method, on how many samples, and how much may be lost."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modelopt_cli.core.strategy import Named, Settings
from modelopt_cli.core.types import Count, Items
from modelopt_cli.quantization.methods import Quantization
from modelopt_cli.quantization.methods.static import Static
from modelopt_cli.training.recovery import Recovery

__all__ = ["QuantizationRecovery", "QuantizationSettings"]


class QuantizationRecovery(Recovery):
    """Training that foresees the rounding (quantisation-aware), before the model is quantized."""

    when: Literal["auto", "always"] = Field(
        "auto", description="auto: where the quantized model loses more than max_drop on validation without it."
    )


class QuantizationSettings(Settings):
    """Options of quantization: weights, and by most methods activations, of 8 bits."""

    method: Annotated[Quantization, Named("quantizations")] = Field(Static(), description="How it is done.")
    samples: Count = Field(512, description="Train samples that the ranges of activations are calibrated on.")
    exclude: Items[str] = Field((), description="Globs over layer names: leave these in float.")
    max_drop: Annotated[float, Field(ge=0.0)] | None = Field(
        0.005,
        description="How much the first metric of the task (accuracy, r2) may fall on validation; where it falls more, "
        "the most sensitive layers are left in float, one after another, until it is met. null: all are quantized.",
    )
    tries: Count = Field(
        32, description="Layers that are left in float on trial at most, each alone; more go in blocks of neighbours."
    )
    recovery: QuantizationRecovery | None = Field(
        None, description="Training that foresees the rounding, before the model is quantized; null: none."
    )

    @model_validator(mode="after")
    def _recovery_fits(self) -> Self:
        if self.recovery is None:
            return self
        if not self.method.fake:
            raise ValueError(
                f"a recovery foresees what the method rounds, but {self.method.name()} rounds activations by each "
                "batch, or none; use method: static, or leave out recovery"
            )
        if self.recovery.when == "auto" and self.max_drop is None:
            raise ValueError(
                "recovery.when is auto, which is where more than max_drop is lost, but max_drop is null; set it, e.g. "
                "max_drop: 0.005, or write recovery: {when: always}"
            )
        return self

    def excludes(self, layer: str) -> bool:
        """Whether the file says that the layer stays in float."""
        return any(fnmatchcase(layer, glob) for glob in self.exclude)
