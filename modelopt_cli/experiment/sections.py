"""The sections of an experiment file, each valid by itself. Whether they fit each other is asked in checks/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, field_validator

from modelopt_cli.core.conditions import Condition
from modelopt_cli.core.device import check_device
from modelopt_cli.core.errors import ExperimentError, UsageError
from modelopt_cli.core.references import remember
from modelopt_cli.core.strategy import Named, Settings
from modelopt_cli.core.types import Count, Items
from modelopt_cli.data.sources import DataSource
from modelopt_cli.distillation.settings import DistillationSettings
from modelopt_cli.experiment.command import CommandSettings
from modelopt_cli.experiment.document.document import Document, PathError, value_at
from modelopt_cli.experiment.document.layout import Slot, anchor, plain
from modelopt_cli.experiment.document.marks import Finding, Rejected
from modelopt_cli.experiment.document.messages import findings
from modelopt_cli.experiment.evaluation import EvaluationSettings
from modelopt_cli.experiment.quantization import QuantizationSection
from modelopt_cli.experiment.recovery import PruningSection
from modelopt_cli.experiment.stages import ExportSettings, StageName
from modelopt_cli.models.architectures import Architecture
from modelopt_cli.results.loggers import Logger
from modelopt_cli.training.settings import TrainingSection
from modelopt_cli.tuning.search.settings import TuningSettings

__all__ = ["EXAMPLES", "LAYOUT", "Sections"]

EXAMPLES = {
    "data": "data: {type: digits}",
    "model": "model: {type: mlp}",
    "training": "training: {epochs: 10}",
    "pruning": "pruning: {amount: 0.9}",
    "distillation": "distillation: {teacher: model.pt}",
    "quantization": "quantization: {method: static}",
    "tuning": "tuning: {objective: maximize validation.accuracy, space: {...}}",
    "command": "command: {argv: [python, train.py]}",
}
"""What a section may look like: shown where one is missing."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
Section = TypeVar("Section")


def _condition(text: str) -> str:
    Condition.parse(text)
    return text


class Sections(Settings):
    """Base of `Experiment`: its sections, made from a document, and the document that they were made from."""

    version: Literal[1] = Field(1, description="Version of this file format.")
    name: str = Field("experiment", description="Name of the run directory; by default the file's name.")
    seed: int = Field(0, ge=0, description="Every random choice derives from it.")
    seeds: Count = Field(
        1,
        description="Repeat the whole run with so many seeds, from `seed` on, over the same splits.",
    )
    device: Annotated[str, AfterValidator(check_device)] = Field("auto", description="auto, cpu, cuda or cuda:N.")
    data: Annotated[DataSource, Named("data")] | None = Field(None, description="What is learned from.")
    model: Annotated[Architecture, Named("models")] | None = Field(None, description="What is fitted.")
    training: TrainingSection | None = Field(None, description="How a torch model is fitted.")
    pruning: PruningSection | None = Field(None, description="What is taken out of the model, and how it recovers.")
    distillation: DistillationSettings | None = Field(None, description="Who teaches the model, and how it learns.")
    quantization: QuantizationSection | None = Field(
        None, description="How the model becomes one of 8 bits, and how much that may lose."
    )
    export: ExportSettings | None = Field(None, description="Files that a compression writes beside its model.pt.")
    pipeline: Items[StageName] = Field(
        (), description="Stages of a compression, in their order; empty: those whose sections are there."
    )
    evaluation: EvaluationSettings = Field(EvaluationSettings(), description="How well a setting does.")
    tuning: TuningSettings | None = Field(None, description="What is searched, and how.")
    command: CommandSettings | None = Field(None, description="Any script as an experiment.")
    loggers: Items[Annotated[Logger, Named("loggers")]] = Field(
        (), description="Where runs are logged, beside their own folder, such as [tensorboard, mlflow]."
    )
    gates: Items[Annotated[str, AfterValidator(_condition)]] = Field(
        (), description="Conditions that a run must meet, such as test.accuracy >= 0.95; else exit code 3."
    )

    report: bool = Field(True, description="Whether a run writes report.html, the page that shows it.")

    _document: Document = PrivateAttr()

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or len(name) > 100:
            raise ValueError(
                f"the name '{name}' cannot be a folder's; use letters, digits, '.', '_' and '-' (at most 100), "
                "the first no '.' or '-'"
            )
        return name

    @classmethod
    def validated(cls, document: Document, kept: Mapping[str, Any] = MappingProxyType({})) -> Self:
        """The sections of a document. `kept` are validated ones, in place of the document's. Raises Rejected."""
        given = {key: value for key, value in document.values.items() if key not in kept}
        try:
            made = cls.model_validate({**anchor(given, document.layout, document.folder), **kept})
        except ValidationError as error:
            raise Rejected(findings(error, document)) from None
        made._document = document
        remember(document.references)
        return made

    def changed(self, values: Mapping[str, Any]) -> Self:
        """With plain values at these dotted paths, applied from the shortest path to the longest. Raises Rejected.

        Sections without a change are shared and not validated again.
        """
        try:
            document = self._document.changed(values)
        except PathError as error:
            finding = Finding(tuple(error.path.split(".")), str(error), error.remedy, at_key=True)
            raise Rejected([finding]) from None
        touched = {path.partition(".")[0] for path in values}
        return self.validated(document, {name: getattr(self, name) for name in self.model_fields_set - touched})

    @property
    def origin(self) -> str:
        """What the experiment is called in messages: the file's path, or 'experiment' for a mapping."""
        return self._document.origin

    def resolved(self, *, everything: bool = False) -> dict[str, Any]:
        """All values as plain ones, defaults included and paths absolute; loads again as an equal experiment.

        `everything`: also those few defaults that mean something else when they are written.
        """
        return {key: value for key, value in plain(self, everything).items() if value is not None}

    def value(self, path: str) -> Any:
        """The value at a dotted path, a default included; paths as the file writes them. Raises KeyError."""
        return value_at(_as_written(self.resolved(), self._document.values), path)

    def nearest(self, path: str) -> str:
        """The path of a value of the file, or of a default, that looks most like `path`; else an empty text."""
        return self._document.nearest(path)

    def require(self, *names: str) -> None:
        """Raise ExperimentError, with the remedy, when one of these sections is absent."""
        for name in names:
            self._present(name, getattr(self, name))

    def _present(self, name: str, section: Section | None) -> Section:
        if section is None:
            raise ExperimentError(f"{self.origin}: there is no {name} section; add one, e.g. {EXAMPLES[name]}")
        return section

    def require_one_seed(self, why: str) -> None:
        """Raise UsageError where `seeds` asks for several, with the reason why there is one."""
        if self.seeds > 1:
            raise UsageError(
                f"{self.origin}: seeds is {self.seeds}, but {why}, with one seed; leave it out, or say --set seeds=1"
            )

    def require_data(self) -> DataSource:
        """The data section. Raises ExperimentError when absent."""
        return self._present("data", self.data)

    def require_model(self) -> Architecture:
        """The model section. Raises ExperimentError when absent."""
        return self._present("model", self.model)

    def require_training(self) -> TrainingSection:
        """The training section. Raises ExperimentError when absent."""
        return self._present("training", self.training)

    def require_pruning(self) -> PruningSection:
        """The pruning section. Raises ExperimentError when absent."""
        return self._present("pruning", self.pruning)

    def require_distillation(self) -> DistillationSettings:
        """The distillation section. Raises ExperimentError when absent."""
        return self._present("distillation", self.distillation)

    def require_quantization(self) -> QuantizationSection:
        """The quantization section. Raises ExperimentError when absent."""
        return self._present("quantization", self.quantization)

    def require_tuning(self) -> TuningSettings:
        """The tuning section. Raises ExperimentError when absent."""
        return self._present("tuning", self.tuning)

    def require_command(self) -> CommandSettings:
        """The command section. Raises ExperimentError when absent."""
        return self._present("command", self.command)


LAYOUT = Slot(sections=(Sections,))
"""What may stand where in an experiment file."""


def _as_written(resolved: Any, written: Any) -> Any:
    """`resolved` with the texts of `written` (paths are absolute in the former alone)."""
    if isinstance(resolved, dict) and isinstance(written, Mapping):
        return {key: _as_written(value, written.get(key)) for key, value in resolved.items()}
    if isinstance(resolved, list) and isinstance(written, list) and len(resolved) == len(written):
        return [_as_written(*pair) for pair in zip(resolved, written, strict=True)]
    return written if isinstance(resolved, str) and isinstance(written, str) else resolved
