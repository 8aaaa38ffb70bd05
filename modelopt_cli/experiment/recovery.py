"""The pruning section as a file writes it: what pruning and distillation, which know nothing of each other, give it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from modelopt_cli.distillation.settings import RecoveryGuidance
from modelopt_cli.pruning.settings import PruningSettings, Recovery

__all__ = ["PruningSection", "RecoverySection"]


class RecoverySection(Recovery):
    """How the model is trained after pruning, by its labels or by a teacher."""

    distillation: RecoveryGuidance | None = Field(
        None, description="Learn from the model as it was before pruning, or from another teacher; null: from labels."
    )


class PruningSection(PruningSettings):
    """Options of pruning, recovery by a teacher included."""

    recovery: RecoverySection | None = Field(None, description="Training after each pruning; null: none.")

    @property
    def guidance(self) -> RecoveryGuidance | None:
        """What recovers the model beside its labels."""
        return None if self.recovery is None else self.recovery.distillation

    @model_validator(mode="after")
    def _teacher_is_there(self) -> Self:
        if self.guidance is not None and self.guidance.teacher is None and self.start == "initial":
            raise ValueError(
                "recovery.distillation learns from the model before pruning, which start: initial leaves untrained; "
                "name a teacher, e.g. recovery: {distillation: {teacher: model.pt}}"
            )
        return self
