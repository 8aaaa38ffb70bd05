"""The quantization section as a file writes it: quantization and distillation know nothing of each other."""

from __future__ import annotations

from pydantic import Field

from modelopt_cli.distillation.settings import RecoveryGuidance
from modelopt_cli.quantization.settings import QuantizationRecovery, QuantizationSettings

__all__ = ["QuantizationRecoverySection", "QuantizationSection"]


class QuantizationRecoverySection(QuantizationRecovery):
    """Training that foresees the rounding, beside the labels by a teacher."""

    distillation: RecoveryGuidance | None = Field(
        RecoveryGuidance(),
        description="Learn from the model in float as it was before (of a pipeline: the dense one), or from another "
        "teacher; null: from labels alone.",
    )


class QuantizationSection(QuantizationSettings):
    """Options of quantization, recovery by a teacher included."""

    recovery: QuantizationRecoverySection | None = Field(
        None, description="Training that foresees the rounding, before the model is quantized; null: none."
    )
