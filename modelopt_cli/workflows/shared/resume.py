"""Continuing a run: is the experiment still the one that the run directory was made for?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from modelopt_cli.core.errors import StorageError, UsageError
from modelopt_cli.core.references import Written, escape, is_of
from modelopt_cli.tuning.space.parameters import is_under

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment

# What may differ when a run goes on: how long and where it runs, never what it computes.
MAY_CHANGE = (
    "tuning.trials",
    "tuning.stop_when",
    "tuning.timeout",
    "tuning.workers",
    "tuning.executor",
    "tuning.trial_timeout",
    "tuning.trial_memory",
    "tuning.max_failures",
    "gates",
    "evaluation.folder",  # files of earlier versions do not write it
    "command.timeout",
    "command.pause",
)


def check_unchanged(folder: Path, experiment: Experiment) -> None:
    """Raise UsageError with the differences when the run in `folder` was made for another experiment."""
    path = folder / "experiment.yaml"
    try:
        before = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read ({error}); start a new run without --resume") from None
    old, new = flatten(_computed(before)), _as_in_a_file(experiment)
    plain = flatten(_computed(experiment.resolved(everything=True)))
    written = flatten(experiment.document)
    fewer = _fewer_trials(old, new)
    others = _other_values(folder, experiment)
    changed = [
        f"  {key}: {old.get(key, '(absent)')!r} -> {new.get(key, '(absent)')!r}"
        for key in sorted({*old, *new})
        if key in old or not _is_default(key, written)
        if old.get(key, _ABSENT) not in (new.get(key, _ABSENT), plain.get(key, _ABSENT))
        and not any(key == free or key.startswith(free + ".") for free in MAY_CHANGE)
    ]
    if changed or fewer or others:
        lines = "\n".join([*changed, *fewer, *others])
        raise UsageError(
            f"{folder} was started with another experiment, so it cannot be resumed:\n{lines}\n"
            "Restore these values, or start a new run without --resume. "
            "(--set tuning.trials=N may grow; workers, timeouts, stop_when, executor and gates may change.)"
        )


def _is_default(key: str, written: Mapping[str, Any]) -> bool:
    """Whether nobody wrote an option. The run's file holds all there were then, so the version had no such option."""
    return not any(is_under(key, path) or is_under(path, key) for path in written)


_ABSENT = object()
_CONSENT = "trust_code"


def _computed(values: Any) -> Any:
    """Without what says whose code may run, which changes no result."""
    if isinstance(values, Mapping):
        return {key: _computed(value) for key, value in values.items() if key != _CONSENT}
    return [_computed(value) for value in values] if isinstance(values, list | tuple) else values


def _as_in_a_file(experiment: Experiment) -> dict[str, Any]:
    """Path -> value as experiment.yaml has it: references as they are written, `${` of other texts escaped."""

    def text(value: Any) -> Any:
        if isinstance(value, str):
            return str(value) if isinstance(value, Written) else escape(value)
        return [text(item) for item in value] if isinstance(value, list) else value

    return {key: text(value) for key, value in flatten(_computed(experiment.written())).items()}


def _other_values(folder: Path, experiment: Experiment) -> list[str]:
    """Environment variables that stand for other values than when the run was started."""
    try:
        kept = json.loads((folder / "environment.json").read_text()).get("variables") or {}
    except (OSError, ValueError, AttributeError):
        return []
    now = experiment.variables(but=MAY_CHANGE)
    return [
        f"  the environment variable {name}: another value than when the run was started"
        for name, value in now.items()
        if name in kept and not is_of(value, kept[name])
    ]


def _fewer_trials(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = old.get("tuning.trials"), new.get("tuning.trials")
    if isinstance(before, int) and isinstance(after, int) and after < before:
        return [f"  tuning.trials: {before} -> {after} (it may grow, not shrink)"]
    return []


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value; lists and empty mappings are values."""
    if isinstance(values, Mapping) and values:
        found: dict[str, Any] = {}
        for key, value in values.items():
            found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: list(values) if isinstance(values, tuple) else values}
