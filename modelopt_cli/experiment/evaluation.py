"""The `evaluation:` section: how well a setting does, beyond a single validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from modelopt_cli.core.imports import Target
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count, Items
from modelopt_cli.training.metrics.names import OwnMetric


class EvaluationSettings(Settings):
    """Cross-validation, and the user's own metrics."""

    path_fields: ClassVar[tuple[str, ...]] = ("folder",)

    cv: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Folds over all data that is not the test split, as scikit-learn's cv; null: the validation split.",
    )
    groups: str | None = Field(
        None,
        description="Column that says whose a sample is: no group is on both sides of a fold (nor of the splits). "
        "null: that of data.splits.",
    )
    order: Literal["time"] | None = Field(
        None,
        description="time: each fold is judged on samples later than all that it trains on; see data.time. null: as "
        "data.splits has it.",
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

    @model_validator(mode="before")
    @classmethod
    def _no_folder_without_metrics(cls, given: Any) -> Any:
        """Where nothing is imported, it does not matter from where: such an experiment is the same in any folder."""
        if isinstance(given, Mapping) and not given.get("metrics"):
            return {name: value for name, value in given.items() if name != "folder" or not isinstance(value, str)}
        return given

    @model_validator(mode="after")
    def _folds_one_way(self) -> Self:
        for name in ("groups", "order"):
            if getattr(self, name) is not None and self.cv is None:
                raise ValueError(f"{name} is about folds, but there are none; set cv (e.g. 5), or data.splits.{name}")
        if self.groups is not None and self.order is not None:
            raise ValueError("folds go by groups or by time, not by both; leave out groups or order")
        if self.order is not None and self.repeats > 1:
            raise ValueError(f"repeats is {self.repeats}, but folds in order of time are always the same; leave it out")
        return self

    @model_validator(mode="after")
    def _repeats_need_folds(self) -> Self:
        if self.repeats > 1 and self.cv is None:
            raise ValueError(f"repeats is {self.repeats}, but there are no folds to repeat; set cv (e.g. 5)")
        return self
