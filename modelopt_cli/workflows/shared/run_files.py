"""What a run directory holds of a run under way: what it was made for, the state to go on from, tables and model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from modelopt_cli.core.errors import StorageError, UsageError
from modelopt_cli.core.references import Written, escape, is_of
from modelopt_cli.tuning.space.parameters import is_under
from modelopt_cli.workflows.shared.context import Context, Message, RunBegun

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Table
    from modelopt_cli.tuning.objective import Run

Curve = list[tuple[int, dict[str, float]]]
"""(step, metrics) of each step of a run so far."""
SAVE_EVERY = 30.0
"""Seconds between saved states, so that a crash loses no more."""

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
    "report",
    "loggers",
    "evaluation.folder",  # files of earlier versions do not write it
    "command.timeout",
    "command.pause",
)


def check_resumed(experiment: Experiment, context: Context) -> None:
    """Raise UsageError when a run is to be resumed that was made for another experiment."""
    directory = context.directory
    if context.resume and directory is not None and directory.path_of("experiment.yaml").exists():
        check_unchanged(directory.path, experiment)


def record(
    experiment: Experiment,
    context: Context,
    device: str | None = None,
    auto: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write down what is run, and where. `device`: the one that was chosen, where it is known. `auto`: what was taken
    for options that the file leaves open; written first, since a run that goes on asks whether it was so.
    """
    context.emit(RunBegun())
    directory = context.directory
    if directory is not None:
        directory.write_environment(experiment.seed, device or experiment.device, experiment.variables(), auto)
        directory.write_experiment(experiment.written())


def write(context: Context, tables: Mapping[str, Table], model: Checkpoint | None) -> dict[str, str]:
    """Write tables and model into the run directory; what was written."""
    directory = context.directory
    if directory is None:
        return {}
    for name, table in tables.items():
        directory.write_table(name, table)
    written = {"directory": str(directory.path), "tables": str(directory.path_of("curve.csv"))}
    if model is not None:
        from modelopt_cli.models.files import checkpoints

        checkpoints.save(directory.path_of("model.pt"), model)
        written["model"] = str(directory.path_of("model.pt"))
    return {**written, "report": str(directory.path_of("report.json"))}


def forget_state(context: Context) -> None:
    """The run is complete: there is nothing to go on with."""
    if context.directory is not None:
        with contextlib.suppress(OSError):  # it does no harm
            context.directory.path_of(".state.pt").unlink()


def save_state(context: Context, current: Run, curve: Curve) -> None:
    """Keep what resuming needs, where the run can be resumed at all."""
    state = current.state()
    if context.directory is None or state is None:
        return
    import torch

    from modelopt_cli.results.files import write_whole

    content = {"state": state, "curve": curve}
    write_whole(context.directory.path_of(".state.pt"), lambda stream: torch.save(content, stream))
    context.stop.kept = f"all up to step {current.step} of {current.total}"


def load_state(context: Context) -> tuple[Any, Curve]:
    """The saved state and the curve up to it, where a run is resumed that has one; None and an empty curve."""
    if not context.resume or context.directory is None:
        return None, []
    path = context.directory.path_of(".state.pt")
    if not path.exists():
        context.emit(Message("no saved state in this run; it starts from the beginning", warning=True))
        return None, []
    import torch

    content = torch.load(path, weights_only=True)
    context.stop.kept = "what was saved before"
    return content["state"], [(int(step), dict(metrics)) for step, metrics in content["curve"]]


def check_unchanged(folder: Path, experiment: Experiment) -> None:
    """Raise UsageError with the differences when the run in `folder` was made for another experiment."""
    path = folder / "experiment.yaml"
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def _is_default(key: str, written: Mapping[str, object]) -> bool:
    """Whether nobody wrote an option. The run's file holds all there were then, so the version had no such option."""
    return not any(is_under(key, path) or is_under(path, key) for path in written)


_ABSENT = object()
_CONSENT = "trust_code"


def _computed(values: object) -> object:
    """Without what says whose code may run, which changes no result."""
    if isinstance(values, Mapping):
        return {key: _computed(value) for key, value in values.items() if key != _CONSENT}
    return [_computed(value) for value in values] if isinstance(values, list | tuple) else values


def _as_in_a_file(experiment: Experiment) -> dict[str, object]:
    """Path -> value as experiment.yaml has it: references as they are written, `${` of other texts escaped."""

    def text(value: object) -> object:
        if isinstance(value, str):
            return str(value) if isinstance(value, Written) else escape(value)
        return [text(item) for item in value] if isinstance(value, list) else value

    return {key: text(value) for key, value in flatten(_computed(experiment.written())).items()}


def _other_values(folder: Path, experiment: Experiment) -> list[str]:
    """Environment variables that stand for other values than when the run was started."""
    try:
        kept = json.loads((folder / "environment.json").read_text(encoding="utf-8")).get("variables") or {}
    except (OSError, ValueError, AttributeError):
        return []
    now = experiment.variables(but=MAY_CHANGE)
    return [
        f"  the environment variable {name}: another value than when the run was started"
        for name, value in now.items()
        if name in kept and not is_of(value, kept[name])
    ]


def _fewer_trials(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    before, after = old.get("tuning.trials"), new.get("tuning.trials")
    if isinstance(before, int) and isinstance(after, int) and after < before:
        return [f"  tuning.trials: {before} -> {after} (it may grow, not shrink)"]
    return []


def flatten(values: object, prefix: str = "") -> dict[str, object]:
    """Dotted path -> value; lists and empty mappings are values."""
    if isinstance(values, Mapping) and values:
        flat: dict[str, object] = {}
        for key, value in values.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: list(values) if isinstance(values, tuple) else values}
