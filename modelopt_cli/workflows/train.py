"""The train workflow: one training of the file's model (or one run of its script), judged and saved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Report, Table
from modelopt_cli.workflows import gates, stages
from modelopt_cli.workflows.context import Context, EpochEnded, Message
from modelopt_cli.workflows.cross_validation_run import CrossValidationRun
from modelopt_cli.workflows.objectives import open_run, open_script, open_single
from modelopt_cli.workflows.preflight import preflight
from modelopt_cli.workflows.resume import check_unchanged
from modelopt_cli.workflows.tables import curve_table
from modelopt_cli.workflows.torch_run import TorchRun

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.checkpoints import Checkpoint
    from modelopt_cli.tuning.objective import Run
    from modelopt_cli.workflows.estimator_run import EstimatorRun

_SAVE_EVERY = 30.0  # seconds between saved states, so that a crash loses no more


def run(experiment: Experiment, context: Context) -> Report:
    """Train (or cross-validate and then train on all development data), judge on every split, save."""
    started, clock = datetime.now(UTC).astimezone(), time.perf_counter()
    directory = context.directory
    if context.resume and directory is not None and directory.path_of("experiment.yaml").exists():
        check_unchanged(directory.path, experiment.resolved())
    preflight(experiment)
    if directory is not None:
        directory.write_experiment(experiment.resolved())
        directory.write_environment(seed=experiment.seed, device=experiment.device)
    state = _load_state(context)
    open_it = open_script if experiment.model is None else open_run
    current = (
        open_it(experiment, experiment.seed) if state is None else open_run(experiment, experiment.seed, state=state[0])
    )
    curve: list[tuple[int, dict[str, float]]] = [] if state is None else state[1]
    try:
        _advance(current, curve, context)
        interrupted = bool(context.stop)
        metrics = {} if interrupted else dict(current.metrics())
        tables = {"curve": curve_table(curve, "fold" if isinstance(current, CrossValidationRun) else "epoch")}
        if isinstance(current, CrossValidationRun):
            tables["folds"] = _folds(current)
        model: Checkpoint | None = None
        if not interrupted and experiment.model is not None:
            final = _final(experiment, current)
            metrics |= final.test_metrics()
            model = final.checkpoint(metrics)
    finally:
        current.close()
    report = Report(
        workflow="train",
        name=experiment.name,
        status="interrupted" if interrupted else "completed",
        seed=experiment.seed,
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        metrics=metrics,
        tables=tables,
        gates=[] if interrupted else gates.judge(gates.conditions(experiment, context), metrics),
        artefacts=_write(context, tables, model, interrupted),
    )
    if directory is not None:
        directory.write_report(report)
    return report.with_model(model)


def dry_run(experiment: Experiment, context: Context) -> Report:
    """Everything that can be checked without training."""
    preflight(experiment)
    plan: dict[str, Any] = {}
    if experiment.model is not None:
        from modelopt_cli.workflows.measuring import trial_seconds

        trial_seconds(experiment)  # the first one pays for imports and warm-up
        plan = {"estimated_seconds": trial_seconds(experiment)}
    return Report(workflow="train", name=experiment.name, seed=experiment.seed, plan=plan)


def _advance(current: Run, curve: list[tuple[int, dict[str, float]]], context: Context) -> None:
    saved = time.monotonic()
    while current.step < current.total and not context.stop:
        for step, metrics in current.advance(current.step + 1):
            curve.append((step, dict(metrics)))
            context.emit(EpochEnded(step, current.total, metrics))
        if time.monotonic() - saved > _SAVE_EVERY:
            _save_state(context, current, curve)
            saved = time.monotonic()
    if context.stop:
        _save_state(context, current, curve)


def _final(experiment: Experiment, current: Run) -> TorchRun | EstimatorRun:
    """The model that is saved: the trained one, or after cross-validation one fitted on all development data."""
    if not isinstance(current, CrossValidationRun):
        return current  # type: ignore[return-value]
    final = open_single(experiment, stages.development_data(experiment), experiment.seed)
    final.advance(final.total)
    return final


def _folds(current: CrossValidationRun) -> Table:
    return curve_table(list(enumerate(current.results, start=1)), "fold")


def _write(
    context: Context, tables: Mapping[str, Table], model: Checkpoint | None, interrupted: bool
) -> dict[str, str]:
    directory = context.directory
    if directory is None:
        return {}
    for name, table in tables.items():
        directory.write_table(name, table)
    found = {"directory": str(directory.path), "tables": str(directory.path_of("curve.csv"))}
    if model is not None:
        from modelopt_cli.models import checkpoints

        checkpoints.save(directory.path_of("model.pt"), model)
        found["model"] = str(directory.path_of("model.pt"))
    if not interrupted:
        directory.path_of(".state.pt").unlink(missing_ok=True)
    return {**found, "report": str(directory.path_of("report.json"))}


def _save_state(context: Context, current: Run, curve: list[tuple[int, dict[str, float]]]) -> None:
    """Keep what resuming needs, where the run can be resumed at all."""
    state = current.state()
    if context.directory is None or state is None:
        return
    import torch

    from modelopt_cli.results.files import write_whole

    content = {"state": state, "curve": curve}
    write_whole(context.directory.path_of(".state.pt"), lambda stream: torch.save(content, stream))


def _load_state(context: Context) -> tuple[Any, list[tuple[int, dict[str, float]]]] | None:
    if not context.resume or context.directory is None:
        return None
    path = context.directory.path_of(".state.pt")
    if not path.exists():
        context.emit(Message("no saved state in this run; it starts from the beginning", warning=True))
        return None
    import torch

    content = torch.load(path, weights_only=True)
    return content["state"], [(int(step), dict(metrics)) for step, metrics in content["curve"]]
