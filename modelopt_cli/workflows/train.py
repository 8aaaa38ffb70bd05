"""The train workflow: one training of the file's model (or one run of its script), judged and saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.workflows.runs.cross_validation import CrossValidationRun
from modelopt_cli.workflows.runs.opening import open_run, trained_on_all
from modelopt_cli.workflows.runs.script import open_script
from modelopt_cli.workflows.shared import run_files
from modelopt_cli.workflows.shared.context import Context, StageBegun
from modelopt_cli.workflows.shared.metric_checks import check_metrics
from modelopt_cli.workflows.shared.over_seeds import over_seeds
from modelopt_cli.workflows.shared.preflight import preflight
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting, planned
from modelopt_cli.workflows.shared.run_scope import one_run
from modelopt_cli.workflows.shared.tables import curve_table

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Report, Table
    from modelopt_cli.tuning.objective import Run
    from modelopt_cli.workflows.runs.base import ModelRun


@one_run()
def run(experiment: Experiment, context: Context) -> Report:
    """Train (or cross-validate and then train on all development data), judge on every split, save."""
    check_metrics(experiment, context, "train")
    return over_seeds(_run, experiment, context)


def _run(experiment: Experiment, context: Context) -> Report:
    """One seed's run."""
    reporting = Reporting(experiment, context)
    run_files.check_resumed(experiment, context)
    preflight(experiment)
    run_files.record(experiment, context)
    state = run_files.load_state(context)
    curve: list[tuple[int, dict[str, float]]] = [] if state is None else state[1]
    with reporting.log.recording():
        current = _opened(experiment, None if state is None else state[0])
        try:
            run_files.advance(current, curve, context)
            interrupted = bool(context.stop)
            context.emit(StageBegun("saving what was done" if interrupted else "judging and measuring what came of it"))
            tables = {"curve": curve_table(curve, "fold" if isinstance(current, CrossValidationRun) else "epoch")}
            if isinstance(current, CrossValidationRun):
                tables["folds"] = _folds(current)
            stopped = Outcome(tables=tables, warnings=current.warnings)
            outcome = stopped if interrupted else _judged(experiment, current, tables)
        finally:
            current.close()
        artefacts = run_files.write(context, tables, outcome.model, interrupted)
    return reporting.report("training", "train", outcome, interrupted=interrupted, artefacts=artefacts)


def _opened(experiment: Experiment, state: Any) -> Run:
    if experiment.model is None:
        return open_script(experiment, experiment.seed)
    return open_run(experiment, experiment.seed, state=state)


def _judged(experiment: Experiment, current: Run, tables: Mapping[str, Table]) -> Outcome:
    """The run's model judged on every split; a script judges itself."""
    metrics, warnings = dict(current.metrics()), list(current.warnings)
    if experiment.model is None:
        return Outcome(metrics, tables, warnings=warnings)
    final = _final(experiment, current)
    metrics |= final.test_metrics()
    told = [*warnings, *final.warnings]
    return Outcome(metrics, tables, final.details, told, final.checkpoint(metrics))


@one_run()
def dry_run(experiment: Experiment, context: Context) -> Report:
    """Everything that can be checked without training."""
    check_metrics(experiment, context, "train")
    preflight(experiment)
    plan: dict[str, Any] = {}
    if experiment.model is not None:
        from modelopt_cli.workflows.runs.timing import training_seconds

        training_seconds(experiment)  # the first one pays for imports and warm-up
        plan = {"estimated_seconds": training_seconds(experiment)}
    return planned("train", experiment, plan)


def _final(experiment: Experiment, current: Run) -> ModelRun:
    """The model that is saved: the trained one, or after cross-validation one fitted on all development data."""
    if not isinstance(current, CrossValidationRun):
        return current  # type: ignore[return-value]
    return trained_on_all(experiment, experiment.seed, current.metrics().get("train.epochs"))


def _folds(current: CrossValidationRun) -> Table:
    return curve_table(list(enumerate(current.results, start=1)), "fold")
