"""What replaces values of a file: overrides such as `training.epochs=5`, read as YAML is, and values from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.references import Reference
from modelopt_cli.experiment.document.document import Document, PathError, text
from modelopt_cli.experiment.document.events import DEPTH
from modelopt_cli.experiment.document.layout import sparse
from modelopt_cli.experiment.document.marks import Finding, Mark, Path, Problem, Source, fail, fail_all
from modelopt_cli.experiment.document.yaml_loader import parse


@dataclass(frozen=True)
class Override:
    """`path` gets `value`; `mark` tells the user where that comes from."""

    path: str
    value: Any
    mark: Mark
    references: Mapping[Path, Reference] = field(default_factory=dict)

    @classmethod
    def parse(cls, setting: str) -> Override:
        """From `PATH=VALUE`; an empty value is null. Raises UsageError."""
        path, equals, value = setting.partition("=")
        if not equals or not path.strip():
            raise UsageError(f"--set {setting}: write PATH=VALUE, e.g. --set training.epochs=5")
        name = f"--set {setting}"
        document = parse(Source(name, value, inline=True))
        return cls(path.strip(), document.values, Mark(Source(name)), document.references)


def apply(document: Document, overrides: Sequence[Override]) -> Document:
    """`document` with the overrides, from the shortest path to the longest.

    Raises ExperimentError, with the nearest path, where a path names nothing.
    """
    problems: list[Problem] = []
    for override in sorted(overrides, key=lambda override: override.path.count(".")):
        try:
            document = document.override(override.path, override.value, override.mark, override.references)
        except PathError as error:
            near = document.nearest(override.path)
            problems.append(Problem(override.mark, str(error), f"did you mean '{near}'?" if near else ""))
    if problems:
        fail_all(problems)
    return document


def normalise(value: Any, mark: Mark, depth: int = 0) -> Any:
    """A value from Python as plain values: numpy's numbers, tuples, paths and settings are turned into them."""
    if value is None or isinstance(value, bool) or type(value) in (str, int, float):
        return value
    if depth > DEPTH:
        fail(mark, f"lists and sections are nested more than {DEPTH} deep")
    if isinstance(value, BaseModel):
        return normalise(sparse(value), mark, depth + 1)
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            fail(mark, f"the key {wrong[0]!r} is no text", f"write {str(wrong[0])!r}")
        return {str(key): normalise(item, mark, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [normalise(item, mark, depth + 1) for item in value]
    if isinstance(value, str | FilePath):
        return str(value)
    if hasattr(value, "tolist"):  # a numpy array or number
        return normalise(value.tolist(), mark, depth + 1)
    return fail(mark, f"{value!r} is no plain value", "use numbers, text, true, false, null, lists and mappings")


def value_mark(finding: Finding, values: Mapping[str, Any], origin: str) -> Mark:
    """What the user is told instead of a line: the value, given from Python or by a search, that is behind it."""
    where = text(finding.path)
    behind = [path for path in values if where == path or where.startswith(path + ".")] or list(values)
    path = max(behind, key=len)
    return Mark(Source(f"{origin}: {path}={values[path]!r}"))
