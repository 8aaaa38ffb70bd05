"""Continuing a run: is the experiment still the one that the run directory was made for?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from modelopt_cli.core.errors import StorageError, UsageError

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
)


def check_unchanged(folder: Path, now: Mapping[str, Any]) -> None:
    """Raise UsageError with the differences when the run in `folder` was made for another experiment."""
    path = folder / "experiment.yaml"
    try:
        before = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read ({error}); start a new run without --resume") from None
    old, new = flatten(before), flatten(now)
    fewer = _fewer_trials(old, new)
    changed = [
        f"  {key}: {old.get(key, '(absent)')!r} -> {new.get(key, '(absent)')!r}"
        for key in sorted({*old, *new})
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
        and not any(key == free or key.startswith(free + ".") for free in MAY_CHANGE)
    ]
    if changed or fewer:
        lines = "\n".join([*changed, *fewer])
        raise UsageError(
            f"{folder} was started with another experiment, so it cannot be resumed:\n{lines}\n"
            "Restore these values, or start a new run without --resume. "
            "(--set tuning.trials=N may grow; workers, timeouts, stop_when, executor and gates may change.)"
        )


_ABSENT = object()


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
