"""A shorter training after something was done to a model: what differs from the training section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelopt_cli.core.strategy import Named, Settings
from modelopt_cli.core.types import Count, Positive
from modelopt_cli.training.optimizers import Optimizer
from modelopt_cli.training.schedules import LearningRateSchedule
from modelopt_cli.training.settings import TrainingSettings

__all__ = ["Recovery"]


class Recovery(Settings):
    """How the model is trained after pruning or before quantization. What is null is as in the training section."""

    epochs: Count | None = Field(None, description="Passes over the train split in each recovery.")
    batch_size: Count | None = Field(None, description="Samples in an optimizer step.")
    optimizer: Annotated[Optimizer, Named("optimizers")] | None = Field(None, description="Any optimizer.")
    lr: Positive | None = Field(None, description="Learning rate, in place of the optimizer's own.")
    schedule: Annotated[LearningRateSchedule, Named("schedules")] | None = Field(
        None, description="How the learning rate changes over a recovery."
    )
    clip_norm: Positive | None = Field(None, description="Largest norm of the gradient.")
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] | None = Field(
        None, description="Share of the target's probability that is spread."
    )
    patience: Count | None = Field(None, description="Epochs without improvement before a recovery ends.")
    monitor: str | None = Field(None, description="Metric that patience and `keep: best` look at.")
    keep: Literal["last", "best"] | None = Field(
        None, description="Which epoch's weights remain; of several prunings, of those after the last."
    )

    def over(self, training: TrainingSettings) -> TrainingSettings:
        """The training section with what differs."""
        changed = {name: value for name, value in self if value is not None and name in TrainingSettings.model_fields}
        optimizer = self.optimizer or training.optimizer
        if self.lr is not None:
            changed["optimizer"] = optimizer.model_copy(update={"lr": self.lr})
        return training.model_copy(update=changed)
