"""The experiment: one YAML file, validated and frozen, any value of which can be searched.

experiment = Experiment.load("configs/digits_mlp.yaml", ["training.epochs=5"])
experiment.with_values({"training.optimizer": {"type": "sgd"}, "training.optimizer.lr": 0.1})
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, field_validator

from modelopt_cli.core.conditions import Condition
from modelopt_cli.core.consent import Consent
from modelopt_cli.core.device import check_device
from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.core.references import Reference, put_back, remember
from modelopt_cli.core.strategy import Named, Settings
from modelopt_cli.core.types import Count, Items
from modelopt_cli.data.sources import DataSource
from modelopt_cli.distillation.settings import DistillationSettings
from modelopt_cli.experiment.command import CommandSettings
from modelopt_cli.experiment.consent import consent_in, trusting
from modelopt_cli.experiment.document import document as paths
from modelopt_cli.experiment.document.layout import Slot, anchor, plain, slots
from modelopt_cli.experiment.document.marks import Finding, Mark, Marks, Problem, Rejected, Source, fail_all
from modelopt_cli.experiment.document.messages import findings
from modelopt_cli.experiment.document.overrides import Override, apply, normalise, value_mark
from modelopt_cli.experiment.document.yaml_loader import Document, load_file
from modelopt_cli.experiment.evaluation import EvaluationSettings
from modelopt_cli.experiment.examples import EXAMPLES
from modelopt_cli.experiment.recovery import PruningSection
from modelopt_cli.models.architectures import Architecture
from modelopt_cli.training.settings import TrainingSettings
from modelopt_cli.tuning.search.settings import TuningSettings

__all__ = ["Experiment"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
Section = TypeVar("Section")


def _condition(text: str) -> str:
    Condition.parse(text)
    return text


class Experiment(Settings):
    """An experiment file. Two are equal when all their values are, wherever these come from."""

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
    training: TrainingSettings | None = Field(None, description="How a torch model is fitted.")
    pruning: PruningSection | None = Field(None, description="What is taken out of the model, and how it recovers.")
    distillation: DistillationSettings | None = Field(None, description="Who teaches the model, and how it learns.")
    evaluation: EvaluationSettings = Field(EvaluationSettings(), description="How well a setting does.")
    tuning: TuningSettings | None = Field(None, description="What is searched, and how.")
    command: CommandSettings | None = Field(None, description="Any script as an experiment.")
    gates: Items[Annotated[str, AfterValidator(_condition)]] = Field(
        (), description="Conditions that a run must meet, such as test.accuracy >= 0.95; else exit code 3."
    )

    _document: dict[str, Any] = PrivateAttr(default_factory=dict)
    _folder: Path = PrivateAttr(default_factory=Path)
    _origin: str = PrivateAttr(default="experiment")
    _marks: Marks | None = PrivateAttr(default=None)
    _references: Mapping[tuple[str | int, ...], Reference] = PrivateAttr(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or len(name) > 100:
            raise ValueError(
                f"the name '{name}' cannot be a folder's; use letters, digits, '.', '_' and '-' (at most 100), "
                "the first no '.' or '-'"
            )
        return name

    # Making one

    @classmethod
    def load(
        cls,
        source: str | Path | Mapping[str, Any],
        overrides: Sequence[str] = (),
        *,
        checked: bool = True,
        trust_code: bool = False,
    ) -> Experiment:
        """The validated experiment in a YAML file, or in a mapping of the same form.

        `overrides` are texts such as `training.epochs=5`. Relative paths in the file count from its folder (those in a
        mapping from the working directory). `checked` False: a file of an earlier run, each section of which is valid,
        though it may be refused by now as a whole. `trust_code` says `trust_code: true` beside every model.pt that the
        file names. Raises ExperimentError with all problems found, each with its line;
        UsageError for a file that cannot be read; RefusedError for one that would run code.
        """
        from modelopt_cli.experiment.checks.file import check

        document, folder = _read(source)
        document = apply(document, [Override.parse(text) for text in overrides], TOP)
        if trust_code:
            document = replace(document, values=trusting(document.values, TOP))
        marks = document.marks
        try:
            experiment = _validated(document.values, folder, marks.whole.source.name, references=document.references)
        except Rejected as rejected:
            fail_all(finding.at(marks) for finding in rejected.found)
        problems = check(experiment, marks) if checked else []
        if problems:
            fail_all(problems)
        experiment._marks = marks
        return experiment

    def with_values(self, values: Mapping[str, Any]) -> Experiment:
        """A new experiment with other values at these dotted paths, applied from the shortest path to the longest.

        Defaults stay defaults. Sections without a change are shared and not validated again. Raises ExperimentError.
        """
        mark = Mark(Source(self._origin))
        values = {path: normalise(value, mark) for path, value in values.items()}
        try:
            return self.attempt(values)
        except Rejected as rejected:
            fail_all(
                Problem(value_mark(item, values, self._origin), item.message, item.remedy) for item in rejected.found
            )

    def attempt(self, values: Mapping[str, Any]) -> Experiment:
        """`with_values` for plain values, with findings instead of texts. Raises Rejected."""
        document: Any = self._document
        for path in sorted(values, key=lambda path: path.count(".")):
            try:
                document, _ = paths.put(document, path, values[path], TOP)
            except paths.PathError as error:
                found = Finding(tuple(path.split(".")), str(error), error.remedy, at_key=True)
                raise Rejected([found]) from None
        touched = {path.partition(".")[0] for path in values}
        kept = {name: getattr(self, name) for name in self.model_fields_set - touched}
        new = _validated(document, self._folder, self._origin, kept, self._references)
        if "tuning" in touched:
            from modelopt_cli.experiment.checks.file import check

            problems = check(new, Marks(Mark(Source(self._origin))))
            if problems:
                raise Rejected([Finding((), item.message, item.remedy) for item in problems])
        return new

    # Reading one

    @property
    def folder(self) -> Path:
        """The folder of the file, absolute: what relative paths in it count from."""
        return self._folder

    @property
    def origin(self) -> str:
        """What the experiment is called in messages: the file's path, or 'experiment' for a mapping."""
        return self._origin

    @property
    def document(self) -> dict[str, Any]:
        """The values as they were written, overrides included, without defaults."""
        return copy.deepcopy(self._document)

    @property
    def consent(self) -> Consent:
        """To the code that the file names itself, wherever a model.pt names it too."""
        return consent_in(self)

    def resolved(self, *, everything: bool = False) -> dict[str, Any]:
        """All values as plain ones, defaults included and paths absolute; loads again as an equal experiment.

        `everything`: also those few defaults that mean something else when they are written.
        """
        return {key: value for key, value in plain(self, everything).items() if value is not None}

    @property
    def references(self) -> Mapping[tuple[str | int, ...], Reference]:
        """What came in from the environment, by its path in the file."""
        return self._references

    def variables(self, but: Sequence[str] = ()) -> dict[str, str]:
        """Name -> value of the environment variables that stand in the file, elsewhere than below the paths `but`."""
        found: dict[str, str] = {}
        for path, reference in self._references.items():
            where = paths.text(path)
            if not any(where == free or where.startswith(free + ".") for free in but):
                found |= reference.variables
        return found

    def written(self, values: Any = None, above: tuple[str | int, ...] = ()) -> Any:
        """`resolved()` for a file: what came in by `${NAME}` is `${NAME}` again.

        `values`: something else made of this experiment's values, which stands at the path `above` in it.
        """
        return put_back(self.resolved() if values is None else values, self._references, above)

    def to_yaml(self) -> str:
        """`resolved()` as a file that loads again as an equal experiment."""
        from modelopt_cli.core.yaml_dumper import dump

        return dump(self.resolved())

    def value(self, path: str) -> Any:
        """The value at a dotted path, a default included; paths as the file writes them. Raises KeyError."""
        return paths.get(paths.as_written(self.resolved(), self._document), path)

    def require(self, *names: str) -> None:
        """Raise ExperimentError, with the remedy, when one of these sections is absent."""
        for name in names:
            self._present(name, getattr(self, name))

    def refuse(self, found: Sequence[Finding]) -> None:
        """Raise ExperimentError for what was found wrong with the file, each with its line; nothing for nothing."""
        if found:
            marks = self._marks or Marks(Mark(Source(self._origin)))
            fail_all(finding.at(marks) for finding in found)

    def __getstate__(self) -> dict[Any, Any]:
        """Without the places in the file, which nobody asks for in a worker process."""
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {**(state["__pydantic_private__"] or {}), "_marks": None}}

    def _present(self, name: str, section: Section | None) -> Section:
        if section is None:
            raise ExperimentError(f"{self._origin}: there is no {name} section; add one, e.g. {EXAMPLES[name]}")
        return section

    def require_data(self) -> DataSource:
        """The data section. Raises ExperimentError when absent."""
        return self._present("data", self.data)

    def require_model(self) -> Architecture:
        """The model section. Raises ExperimentError when absent."""
        return self._present("model", self.model)

    def require_training(self) -> TrainingSettings:
        """The training section. Raises ExperimentError when absent."""
        return self._present("training", self.training)

    def require_pruning(self) -> PruningSection:
        """The pruning section. Raises ExperimentError when absent."""
        return self._present("pruning", self.pruning)

    def require_distillation(self) -> DistillationSettings:
        """The distillation section. Raises ExperimentError when absent."""
        return self._present("distillation", self.distillation)

    def require_tuning(self) -> TuningSettings:
        """The tuning section. Raises ExperimentError when absent."""
        return self._present("tuning", self.tuning)

    def require_command(self) -> CommandSettings:
        """The command section. Raises ExperimentError when absent."""
        return self._present("command", self.command)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self.name, self.seed))


TOP = Slot(sections=(Experiment,))


def _read(source: str | Path | Mapping[str, Any]) -> tuple[Document, Path]:
    """(the document with a name, the folder that its relative paths count from)."""
    if isinstance(source, Mapping):
        mark = Mark(Source("experiment"))
        return Document({"name": "experiment", **normalise(source, mark)}, Marks(mark)), Path.cwd()
    path = Path(source)
    document = load_file(path)
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip(".-") or "experiment"
    return replace(document, values={"name": stem[:100], **document.values}), path.absolute().parent


def _validated(
    document: Any,
    folder: Path,
    origin: str,
    kept: Mapping[str, Any] | None = None,
    references: Mapping[tuple[str | int, ...], Reference] = MappingProxyType({}),
) -> Experiment:
    """Raises Rejected. `kept` are validated sections that replace those of the document."""
    known = slots(Experiment)
    fields = {
        key: kept[key]
        if kept is not None and key in kept
        else anchor(value, known[key], folder)
        if key in known
        else value
        for key, value in document.items()
    }
    try:
        experiment = Experiment.model_validate(fields)
    except ValidationError as error:
        raise Rejected(findings(error, document, TOP)) from None
    experiment._document, experiment._folder, experiment._origin = document, folder, origin
    experiment._references = dict(references)
    remember(experiment._references)
    return experiment
