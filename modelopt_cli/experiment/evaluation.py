"""The `evaluation:` section: how well a setting does, beyond a single validation split."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from modelopt_cli.core.imports import Target
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count, Items
from modelopt_cli.training.metric_names import OwnMetric


class EvaluationSettings(Settings):
    """Cross-validation, and the user's own metrics."""

    path_fields: ClassVar[tuple[str, ...]] = ("folder",)

    cv: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Folds over all data that is not the test split, as scikit-learn's cv; null: the validation split.",
    )
    repeats: Count = Field(1, description="Repetitions of the folds, each shuffled anew.")
    metrics: Items[Target] = Field(
        (), description="Metrics of your own: import paths module:function of f(targets, predictions) -> number."
    )

    folder: str = Field(".", description="Folder to import metrics from; by default that of the experiment file.")

    @property
    def own(self) -> tuple[OwnMetric, ...]:
        """The metrics as what can be called."""
        return tuple(OwnMetric(target, self.folder) for target in self.metrics)

    @model_validator(mode="after")
    def _repeats_need_folds(self) -> Self:
        if self.repeats > 1 and self.cv is None:
            raise ValueError(f"repeats is {self.repeats}, but there are no folds to repeat; set cv (e.g. 5)")
        return self
