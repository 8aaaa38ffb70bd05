"""A run that ends with a model: what a workflow and a search ask of it beside its metrics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.tuning.objective import Run

if TYPE_CHECKING:
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Table


class ModelRun(Run):
    """Base of the runs that train, prune or distil a torch module, or fit an estimator."""

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

    @property
    def noise(self) -> list[str]:
        """What made its timings unsure: told beside its warnings, and not kept with the model."""
        return []

    @property
    def details(self) -> Mapping[str, Any]:
        """Plain facts for the report, beside its metrics."""
        return {}

    def tables(self) -> dict[str, Table]:
        """Tables for the report, beside the curve."""
        return {}


class RestorableRun(ModelRun):
    """A run whose model can be put back from a file, so that a search need not run its best trial again."""

    @abstractmethod
    def restore(self, trained: Checkpoint) -> None:
        """Take the weights of a model that was made before from the same setting and seed."""
