"""What a single training, pruning or distillation run shares: going on epoch by epoch, saved states, files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.workflows.shared.context import Context, EpochEnded, Message, StageBegun
from modelopt_cli.workflows.shared.resume import check_unchanged

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Table
    from modelopt_cli.tuning.objective import Run

_SAVE_EVERY = 30.0  # seconds between saved states, so that a crash loses no more


def check_resumed(experiment: Experiment, context: Context) -> None:
    """Raise UsageError when a run is to be resumed that was made for another experiment."""
    directory = context.directory
    if context.resume and directory is not None and directory.path_of("experiment.yaml").exists():
        check_unchanged(directory.path, experiment)


def record(experiment: Experiment, context: Context) -> None:
    """Write down what is run, and where."""
    if context.directory is not None:
        context.directory.write_experiment(experiment.written())
        context.directory.write_environment(experiment.seed, experiment.device, experiment.variables())


def advance(current: Run, curve: list[tuple[int, dict[str, float]]], context: Context) -> None:
    """Go on to the end, or until asked to stop; the state is saved now and then."""
    saved, before = time.monotonic(), None
    while current.step < current.total and not context.stop:
        doing = current.doing
        if doing != before:
            if before is not None:  # a stage is finished: from here on it need not be done again
                save_state(context, current, curve)
                saved = time.monotonic()
            context.emit(StageBegun(doing or "training"))
            before = doing
        if context.directory is not None:
            context.directory.check()
        for step, metrics in current.advance(current.total if current.leaps else current.step + 1):
            curve.append((step, dict(metrics)))
            context.emit(EpochEnded(step, current.known_total, metrics, doing))
        if time.monotonic() - saved > _SAVE_EVERY:
            save_state(context, current, curve)
            saved = time.monotonic()
    if context.stop:
        save_state(context, current, curve)


def write(context: Context, tables: Mapping[str, Table], model: Checkpoint | None, interrupted: bool) -> dict[str, str]:
    """Write tables and model into the run directory; what was written."""
    directory = context.directory
    if directory is None:
        return {}
    for name, table in tables.items():
        directory.write_table(name, table)
    found = {"directory": str(directory.path), "tables": str(directory.path_of("curve.csv"))}
    if model is not None:
        from modelopt_cli.models.files import checkpoints

        checkpoints.save(directory.path_of("model.pt"), model)
        found["model"] = str(directory.path_of("model.pt"))
    if not interrupted:
        with contextlib.suppress(OSError):  # it does no harm
            directory.path_of(".state.pt").unlink()
    return {**found, "report": str(directory.path_of("report.json"))}


def save_state(context: Context, current: Run, curve: list[tuple[int, dict[str, float]]]) -> None:
    """Keep what resuming needs, where the run can be resumed at all."""
    state = current.state()
    if context.directory is None or state is None:
        return
    import torch

    from modelopt_cli.results.files import write_whole

    content = {"state": state, "curve": curve}
    write_whole(context.directory.path_of(".state.pt"), lambda stream: torch.save(content, stream))
    context.stop.kept = f"all up to step {current.step} of {current.total}"


def load_state(context: Context) -> tuple[Any, list[tuple[int, dict[str, float]]]] | None:
    """The saved state and the curve up to it, where a run is resumed that has one."""
    if not context.resume or context.directory is None:
        return None
    path = context.directory.path_of(".state.pt")
    if not path.exists():
        context.emit(Message("no saved state in this run; it starts from the beginning", warning=True))
        return None
    import torch

    content = torch.load(path, weights_only=True)
    context.stop.kept = "what was saved before"
    return content["state"], [(int(step), dict(metrics)) for step, metrics in content["curve"]]
