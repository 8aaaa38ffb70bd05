"""The `evaluation:` section: how well a setting does, beyond a single validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from modelopt_cli.core.imports import Target
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Count, Items
from modelopt_cli.training.metrics.names import OwnMetric

LATENCY = "model.latency_ms"
"""The metric of a forward pass on a batch of the first size that is measured."""

_MOST_SAMPLES = 65_536  # in a batch: more would fill the memory before it says anything about a model
_MOST_THREADS = 1024
Runtime = Literal["eager", "compiled", "onnxruntime"]


class LatencySettings(Settings):
    """How the time of a forward pass is measured: model.latency_ms, and what is compared with it."""

    runtime: Literal["auto", "eager", "compiled", "onnxruntime"] = Field(
        "auto",
        description="How models are run: eager (their own code), compiled (torch.compile), onnxruntime (exported; on "
        "the CPU). auto: eager.",
    )
    threads: Annotated[int, Field(ge=1, le=_MOST_THREADS)] = Field(
        1, description="Threads of the CPU that a forward pass may use."
    )
    batch_sizes: Items[Annotated[int, Field(ge=1, le=_MOST_SAMPLES)]] = Field(
        (1, 64),
        description="Samples in a batch. The first size's milliseconds are model.latency_ms, those of another one, say "
        "64, model.latency_ms_64.",
    )
    seconds: Annotated[float, Field(gt=0.0, le=600.0)] = Field(
        0.7, description="How long the turns of each batch size are measured, after a warm-up."
    )

    @field_validator("batch_sizes")
    @classmethod
    def _each_once(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes:
            raise ValueError("batch_sizes is empty; name at least one, e.g. [1]")
        twice = next((size for size in sizes if sizes.count(size) > 1), None)
        if twice is not None:
            raise ValueError(f"batch_sizes has {twice} more than once; name each size once")
        return sizes

    def metric(self, size: int) -> str:
        """What the milliseconds for batches of this size are called in a report."""
        return LATENCY if size == self.batch_sizes[0] else f"{LATENCY}_{size}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are measured, in the order of the batch sizes."""
        return tuple(map(self.metric, self.batch_sizes))

    def run_by(self, auto: Runtime = "eager") -> Runtime:
        """The runtime; `auto` where the file leaves it open."""
        return auto if self.runtime == "auto" else self.runtime


class EvaluationSettings(Settings):
    """Cross-validation, the user's own metrics, and how latency is measured."""

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

    latency: LatencySettings | None = Field(
        None,
        description="How the time of a forward pass is measured; with it, a training measures that, too. null: as the "
        "defaults below have it, by prunings of units and distillations alone.",
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
    def _one_model_is_timed(self) -> Self:
        if self.cv is not None and self.latency is not None:
            raise ValueError("latency is the time of one model, but cv trains one for each fold; leave out one of them")
        return self

    @model_validator(mode="after")
    def _repeats_need_folds(self) -> Self:
        if self.repeats > 1 and self.cv is None:
            raise ValueError(f"repeats is {self.repeats}, but there are no folds to repeat; set cv (e.g. 5)")
        return self
