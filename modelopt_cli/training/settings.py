"""The `training:` section: how a torch module is fitted. Imports nothing heavy; every value can be searched."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.strategy import Named, Settings
from modelopt_cli.core.types import Count, Fraction, Items, Positive
from modelopt_cli.training.optimizers import Optimizer
from modelopt_cli.training.optimizers.adam import Adam
from modelopt_cli.training.schedules import LearningRateSchedule
from modelopt_cli.training.schedules.constant import Constant

__all__ = ["Distributed", "TrainingSection", "TrainingSettings"]

NonNegative = Annotated[float, Field(ge=0.0)]


class TrainingSettings(Settings):
    """Options of the training loop. An epoch is one pass over the train split, a step one optimizer update."""

    epochs: Count = Field(10, description="Passes over the train split.")
    batch_size: Count = Field(32, description="Samples in an optimizer step; at most the size of the train split.")
    optimizer: Annotated[Optimizer, Named("optimizers")] = Field(
        Adam(), description="Any torch.optim optimizer by name, with its own arguments."
    )
    schedule: Annotated[LearningRateSchedule, Named("schedules")] = Field(
        Constant(), description="How the learning rate changes over the steps."
    )
    clip_norm: Positive | None = Field(None, description="Largest norm of the gradient of all parameters together.")
    clip_value: Positive | None = Field(None, description="Largest absolute value of a gradient's entries.")
    loss: Literal["auto", "cross_entropy", "bce", "mse", "mae", "huber"] = Field(
        "auto", description="auto: cross_entropy for classes, bce for labels, mse for regression."
    )
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="Share of the target's probability that is spread evenly over the classes."
    )
    class_weights: Literal["balanced"] | Items[NonNegative] | None = Field(
        None, description="A weight for each class (each label's positives), or balanced: inverse to its frequency."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the forward pass in training. bfloat16: autocast; auto: float32, as all evaluations are.",
    )
    patience: Count | None = Field(None, description="Epochs without improvement of `monitor` before training ends.")
    min_delta: NonNegative = Field(0.0, description="The least change of `monitor` that counts as improvement.")
    monitor: str | None = Field(
        None,
        description="Metric that patience and `keep: best` look at; null: validation.loss. Errors and losses are "
        "minimised; for a metric of your own write e.g. 'minimize validation.cost'.",
    )
    keep: Literal["last", "best"] | None = Field(
        None, description="Which epoch's weights remain; null: best with patience, else last."
    )
    shuffle: bool = Field(True, description="Visit the samples in a new order each epoch.")
    drop_last: bool = Field(False, description="Leave out a last batch smaller than batch_size.")
    evaluate_every: Count = Field(1, description="Epochs between evaluations on the validation split.")
    data_on_device: Literal["auto"] | bool = Field(
        "auto", description="Keep the data on the device; auto: when they take at most device_memory_share of it."
    )
    device_memory_share: Fraction = Field(
        0.5, description="Share of the device's free memory that data may take before they are streamed."
    )

    @property
    def keeps_best(self) -> bool:
        """True when the weights of the best monitored epoch are what remains."""
        return self.keep == "best" or (self.keep is None and self.patience is not None)

    @property
    def monitored(self) -> str | None:
        """The metric that decides on patience and on the best epoch; None when nothing asks for one."""
        if self.patience is None and not self.keeps_best:
            return self.monitor
        return self.monitor or "validation.loss"

    def deciding(self) -> dict[str, Any]:
        """What decides on what is learnt, as plain values: files of trained models are named by it."""
        return self.model_dump(mode="json", exclude={"distributed"})

    @field_validator("monitor")
    @classmethod
    def _monitor_is_no_test_metric(cls, monitor: str | None) -> str | None:
        metric = Goal.parse(monitor).metric if monitor and " " in monitor.strip() else monitor
        if metric is not None and metric.partition(".")[0] not in ("train", "validation"):
            raise ValueError(
                f"'{monitor}' is no metric of the train or validation split, and epochs are chosen on these only; "
                "use e.g. validation.loss or validation.accuracy"
            )
        return monitor


class Distributed(Settings):
    """One training spread over processes of this machine: each computes its share of every batch."""

    processes: Annotated[int, Field(ge=2)] = Field(
        description="How many; on GPUs each has its own, so at most as many as there are."
    )
    backend: Literal["auto", "gloo", "nccl"] = Field(
        "auto", description="What carries gradients between them; auto: nccl on GPUs, gloo on the CPU."
    )


class TrainingSection(TrainingSettings):
    """The file's own `training:` section. Trainings of recoveries and teachers have no more than TrainingSettings."""

    distributed: Distributed | None = Field(
        None, description="Spread the training over processes, with the result of one; null: one process."
    )

    @classmethod
    def of(cls, settings: TrainingSettings) -> TrainingSection:
        """The same settings, in one process unless they say otherwise."""
        return cls.model_construct(_fields_set=settings.model_fields_set, **dict(settings))
