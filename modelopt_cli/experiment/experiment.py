"""The experiment: one YAML file, validated and frozen, any value of which can be searched.

experiment = Experiment.load("configs/digits_mlp.yaml", ["training.epochs=5"])
experiment.with_values({"training.optimizer": {"type": "sgd"}, "training.optimizer.lr": 0.1})
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelopt_cli.core.consent import Consent
from modelopt_cli.core.references import Reference, put_back
from modelopt_cli.experiment.checks.file import check
from modelopt_cli.experiment.consent import consent_in, trusting
from modelopt_cli.experiment.document.document import Document, text
from modelopt_cli.experiment.document.marks import Finding, Mark, Marks, Problem, Rejected, Source, fail_all
from modelopt_cli.experiment.document.overrides import Override, apply, normalise, value_mark
from modelopt_cli.experiment.document.yaml_loader import load_file
from modelopt_cli.experiment.sections import LAYOUT, Sections

__all__ = ["Experiment"]


class Experiment(Sections):
    """An experiment file. Two are equal when all their values are, wherever these come from."""

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
        document = apply(_read(source), [Override.parse(setting) for setting in overrides])
        if trust_code:
            document = replace(document, values=trusting(document.values, LAYOUT))
        try:
            experiment = cls.validated(document)
        except Rejected as rejected:
            fail_all(map(document.problem, rejected.findings))
        if checked:
            document.refuse(check(experiment, document))
        return experiment

    def with_values(self, values: Mapping[str, Any]) -> Experiment:
        """A new experiment with other values at these dotted paths, applied from the shortest path to the longest.

        Defaults stay defaults. Sections without a change are shared and not validated again. Raises ExperimentError.
        """
        mark = Mark(Source(self.origin))
        values = {path: normalise(value, mark) for path, value in values.items()}
        try:
            return self.attempt(values)
        except Rejected as rejected:
            fail_all(
                Problem(value_mark(item, values, self.origin), item.message, item.remedy) for item in rejected.findings
            )

    def attempt(self, values: Mapping[str, Any]) -> Experiment:
        """`with_values` for plain values, with findings instead of texts. Raises Rejected."""
        new = self.changed(values)
        if any(path.partition(".")[0] == "tuning" for path in values):
            findings = check(new, new._document)
            if findings:  # about the file as a whole, whichever of the values is behind them
                raise Rejected([Finding((), item.message, item.remedy) for item in findings])
        return new

    # Reading one

    @property
    def folder(self) -> Path:
        """The folder of the file, absolute: what relative paths in it count from."""
        return self._document.folder

    @property
    def files(self) -> tuple[Path, ...]:
        """Its folder, and whatever its values name that lies elsewhere and is there; absolute."""
        others = sorted({text for text in _texts(self.resolved()) if text.startswith("/")})
        named = [path for text in others if "\0" not in text and (path := Path(text)).exists()]
        return (self.folder, *(path for path in named if not path.is_relative_to(self.folder) and path != Path("/")))

    @property
    def document(self) -> dict[str, Any]:
        """The values as they were written, overrides included, without defaults."""
        return copy.deepcopy(self._document.values)

    @property
    def consent(self) -> Consent:
        """To the code that the file names itself, wherever a model.pt names it too."""
        return consent_in(self)

    @property
    def references(self) -> Mapping[tuple[str | int, ...], Reference]:
        """What came in from the environment, by its path in the file."""
        return self._document.references

    def variables(self, but: Sequence[str] = ()) -> dict[str, str]:
        """Name -> value of the environment variables that stand in the file, elsewhere than below the paths `but`."""
        variables: dict[str, str] = {}
        for keys, reference in self.references.items():
            path = text(keys)
            if not any(path == free or path.startswith(free + ".") for free in but):
                variables |= reference.variables
        return variables

    def written(self, values: Any = None, above: tuple[str | int, ...] = ()) -> Any:
        """`resolved()` for a file: what came in by `${NAME}` is `${NAME}` again.

        `values`: something else made of this experiment's values, which stands at the path `above` in it.
        """
        return put_back(self.resolved() if values is None else values, self.references, above)

    def refuse(self, findings: Sequence[Finding]) -> None:
        """Raise ExperimentError for what is wrong with the file, each finding with its line; nothing for none."""
        self._document.refuse(findings)

    def __getstate__(self) -> dict[Any, Any]:
        """Without the marks, which nobody asks for in a worker process."""
        return {**super().__getstate__(), "__pydantic_private__": {"_document": self._document.unmarked()}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self.name, self.seed))


def _texts(values: Any) -> Iterator[str]:
    """All texts among plain nested values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | list | tuple):
        for item in values.values() if isinstance(values, Mapping) else values:
            yield from _texts(item)


def _read(source: str | Path | Mapping[str, Any]) -> Document:
    """The document with a name, laid out as an experiment is."""
    if isinstance(source, Mapping):
        mark = Mark(Source("experiment"))
        values = {"name": "experiment", **normalise(source, mark)}
        return Document(values, Marks(mark), layout=LAYOUT, folder=Path.cwd())
    path = Path(source)
    document = load_file(path)
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip(".-") or "experiment"
    return replace(document, values={"name": stem[:100], **document.values}, layout=LAYOUT)
