"""A run that ends with a model: what a workflow and a search ask of it beside its metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.tuning.objective import Run
from modelopt_cli.workflows.shared.data_cache import pinned_data
from modelopt_cli.workflows.shared.earlier_pruning import earlier_units, underlying

if TYPE_CHECKING:
    from pathlib import Path

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Table
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.workflows.runs.early_costs import EarlyCosts


class ModelRun(Run):
    """Base of the runs that train, prune or distil a torch module, or fit an estimator."""

    early_costs: EarlyCosts | None = None
    """What its reports tell of the cost of the module under way, where trials are compared by that."""
    answers: Mapping[str, Answers]
    """Split -> what the model answered there, when it was last judged by every metric."""

    @property
    @abstractmethod
    def warnings(self) -> Sequence[str]:
        """What whoever reads the result should know: Python's warnings, and what could not be done, each once."""

    @abstractmethod
    def full_metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split; empty when there is none."""

    @abstractmethod
    def test_metrics(self) -> Mapping[str, float]:
        """Every metric on the test split; empty when there is none. Read once, after every choice is made."""

    @abstractmethod
    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The model with all that using it needs."""

    def costs(self, judged: Mapping[str, float]) -> Mapping[str, float]:
        """What the model costs, where that is measured apart from `metrics`; `judged`: its metrics on validation."""
        return {}

    @property
    def noise(self) -> list[str]:
        """What made its timings unsure: told beside its warnings, and not kept with the model."""
        return []

    def discard(self) -> None:
        """Remove what lies on disk of a run of a search that has ended, and whose model is kept or not wanted."""

    @property
    def details(self) -> Mapping[str, object]:
        """Plain facts for the report, beside its metrics."""
        return {}

    def tables(self) -> dict[str, Table]:
        """Tables for the report, beside the curve."""
        return {}


class RestorableRun(ModelRun):
    """A run whose model can be put back from a file, so that a search need not run its best trial again."""

    @property
    def keepable(self) -> bool:
        """Whether it has the model that its metrics are about; not while it repeats what another run reported."""
        return True

    @abstractmethod
    def restore(self, trained: Checkpoint) -> None:
        """Take the weights of a model that was made before from the same setting and seed."""

    def kept_files(self, folder: Path, stem: str) -> dict[str, Path]:
        """Write what is worth having beside a kept model's checkpoint, such as an int8 file, into `folder`.

        Each file's name is `stem` and an ending of its own: `STEM.int8.onnx` lies beside `STEM.pt`. What -> file.
        """
        return {}


def checkpoint_of(
    experiment: Experiment, prepared: Prepared, model: Any, metrics: Mapping[str, float], warnings: Sequence[str] = ()
) -> Checkpoint:
    """A trained model (module or estimator) with all that using it needs, and what its training told."""
    from modelopt_cli.models.files.checkpoints import Checkpoint

    units = earlier_units(experiment.require_model())
    extra: dict[str, Any] = {} if units is None else {"slimming": units}
    training, torch = experiment.training, experiment.require_model().framework == "torch"
    if torch and training is not None and training.loss != "auto":  # what `modelopt evaluate` judges it by
        extra["loss"] = training.loss
    return Checkpoint(
        model=model,
        architecture=underlying(experiment.require_model()),
        shapes=prepared.shapes,
        preprocessing=prepared.preprocessing.to_plain(),
        label_names=prepared.label_names,
        task=prepared.task,
        metrics=dict(metrics),
        data=pinned_data(experiment, prepared),
        extra=extra,
        warnings=list(warnings),
        references=experiment.references,
        own_metrics=_own_metrics(experiment),
    )


def _own_metrics(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """(import path, folder) of the user's own metrics, what came in by ${NAME} as that."""
    section = experiment.evaluation.model_dump(mode="json", include={"metrics", "folder"})
    section = experiment.written(section, ("evaluation",))
    return tuple((str(target), str(section["folder"])) for target in section["metrics"])
