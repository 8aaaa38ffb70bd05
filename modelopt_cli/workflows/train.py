"""The train workflow: one training of the file's model (or one run of its script), judged and saved."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Report, Table
from modelopt_cli.workflows import gates, single, stages
from modelopt_cli.workflows.context import Context
from modelopt_cli.workflows.cross_validation_run import CrossValidationRun
from modelopt_cli.workflows.foresight import check_metrics
from modelopt_cli.workflows.objectives import open_run, open_script, open_single
from modelopt_cli.workflows.over_seeds import over_seeds
from modelopt_cli.workflows.preflight import preflight
from modelopt_cli.workflows.tables import curve_table

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.checkpoints import Checkpoint
    from modelopt_cli.tuning.objective import Run
    from modelopt_cli.workflows.model_run import ModelRun


def run(experiment: Experiment, context: Context) -> Report:
    """Train (or cross-validate and then train on all development data), judge on every split, save."""
    check_metrics(experiment, context, "train")
    return over_seeds(_run, experiment, context)


def _run(experiment: Experiment, context: Context) -> Report:
    """One seed's run."""
    started, clock = datetime.now(UTC).astimezone(), time.perf_counter()
    single.check_resumed(experiment, context)
    preflight(experiment)
    single.record(experiment, context)
    state = single.load_state(context)
    open_it = open_script if experiment.model is None else open_run
    current = (
        open_it(experiment, experiment.seed) if state is None else open_run(experiment, experiment.seed, state=state[0])
    )
    curve: list[tuple[int, dict[str, float]]] = [] if state is None else state[1]
    try:
        single.advance(current, curve, context)
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
        artefacts=single.write(context, tables, model, interrupted),
    )
    if context.directory is not None:
        context.directory.write_report(report)
    return report.with_model(model)


def dry_run(experiment: Experiment, context: Context) -> Report:
    """Everything that can be checked without training."""
    check_metrics(experiment, context, "train")
    preflight(experiment)
    plan: dict[str, Any] = {}
    if experiment.model is not None:
        from modelopt_cli.workflows.measuring import trial_seconds

        trial_seconds(experiment)  # the first one pays for imports and warm-up
        plan = {"estimated_seconds": trial_seconds(experiment)}
    return Report(workflow="train", name=experiment.name, seed=experiment.seed, plan=plan)


def _final(experiment: Experiment, current: Run) -> ModelRun:
    """The model that is saved: the trained one, or after cross-validation one fitted on all development data."""
    if not isinstance(current, CrossValidationRun):
        return current  # type: ignore[return-value]
    final = open_single(experiment, stages.development_data(experiment), experiment.seed)
    final.advance(final.total)
    return final


def _folds(current: CrossValidationRun) -> Table:
    return curve_table(list(enumerate(current.results, start=1)), "fold")
