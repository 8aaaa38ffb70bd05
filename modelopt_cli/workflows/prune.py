"""The prune workflow: train or load, prune, validate, recover, validate; before, after and recovered side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.workflows.pruning.phases import needs_training, planned_epochs
from modelopt_cli.workflows.pruning.recovery_teacher import check_recovery
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.shared import data_cache, run_files
from modelopt_cli.workflows.shared.context import StageBegun
from modelopt_cli.workflows.shared.metric_checks import check_metrics
from modelopt_cli.workflows.shared.over_seeds import over_seeds
from modelopt_cli.workflows.shared.preflight import preflight
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting, planned
from modelopt_cli.workflows.shared.run_scope import one_run
from modelopt_cli.workflows.shared.tables import curve_table

_REACHED = (
    "pruning.sparsity",
    "pruning.units_removed",
    "model.nonzero",
    "model.parameters",
    "model.flops",
    "model.file_bytes",
    "model.compressed_bytes",
    "model.latency_ms",
    "model.latency_ms_64",
)

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.settings import PruningSettings
    from modelopt_cli.results.report import Kind, Report
    from modelopt_cli.workflows.shared.context import Context


@one_run()
def run(experiment: Experiment, context: Context) -> Report:
    """Prune, judge on every split, save the pruned model (and the dense one, where it was trained here)."""
    check_metrics(experiment, context, "prune")
    return over_seeds(_run, experiment, context)


def _run(experiment: Experiment, context: Context) -> Report:
    """One seed's run."""
    reporting = Reporting(experiment, context)
    run_files.check_resumed(experiment, context)
    check(experiment)
    saved = run_files.load_state(context)
    curve = [] if saved is None else saved[1]
    state = None if saved is None else saved[0]
    with reporting.log.recording():
        context.emit(StageBegun("building the model, and looking for what may go"))
        current = PruneRun(experiment, data_cache.prepared_data(experiment), seed=experiment.seed, state=state)
        run_files.record(experiment, context)  # now that nothing stands in the way
        run_files.advance(current, curve, context)
        interrupted = bool(context.stop)
        context.emit(StageBegun("saving what was done" if interrupted else "judging and measuring what came of it"))
        stopped = Outcome(details={"dry_run": False}, warnings=current.warnings)
        outcome = stopped if interrupted else judged(experiment, current)
        tables = {"curve": curve_table(curve, "step"), **outcome.tables}
        artefacts = run_files.write(context, tables, outcome.model, interrupted)
        if not interrupted:  # what is the run's own is safe by now
            context.emit(StageBegun("writing the model that there was before, and the program of the new one"))
            artefacts |= {**_dense(context, current), **_program(context, current)}
    outcome = replace(outcome, tables=tables)
    return reporting.report(kind_of(experiment), "prune", outcome, interrupted=interrupted, artefacts=artefacts)


def kind_of(experiment: Experiment) -> Kind:
    """The kind of the report on a pruning: units are told of otherwise than weights."""
    return "units" if isinstance(experiment.require_pruning().structure, UnitStructure) else "pruning"


def judged(experiment: Experiment, current: PruneRun) -> Outcome:
    """The pruned model judged on every split."""
    metrics = {**current.metrics(), **current.test_metrics()}
    return Outcome(
        metrics,
        current.tables(),
        details(experiment, current, metrics),
        [*current.warnings, *current.noise],
        current.checkpoint(metrics),
    )


@one_run()
def dry_run(experiment: Experiment, context: Context) -> Report:
    """Everything that can be checked without training, and how long it will take."""
    from modelopt_cli.workflows.runs.timing import training_seconds

    check_metrics(experiment, context, "prune")
    check(experiment)
    epochs = planned_epochs(experiment, shared=False)
    training_seconds(experiment, epochs)  # the first one pays for imports and warm-up
    plan = {"epochs": epochs, "estimated_seconds": training_seconds(experiment, epochs)}
    return planned("prune", experiment, plan, {"dry_run": True})


def check(experiment: Experiment) -> None:
    """Raise UsageError for what pruning cannot do, or what there is to prune is not said."""
    check_parts(experiment)
    needs_training(experiment)


def check_parts(experiment: Experiment) -> None:
    """Raise UsageError for what pruning cannot do."""
    experiment.require_pruning()
    if experiment.require_model().framework != "torch":
        raise UsageError(
            f"the model is {experiment.require_model().name()}, but pruning takes torch models; use another model"
        )
    if experiment.evaluation.cv is not None:
        raise UsageError(
            "a pruning is judged on the validation split, not by cross-validation; leave out evaluation.cv"
        )
    preflight(experiment, prunes=True)
    check_recovery(experiment)


def details(experiment: Experiment, current: PruneRun, metrics: Mapping[str, float]) -> dict[str, Any]:
    """What was asked for, and what was reached."""
    return {
        "pruning": experiment.require_pruning().model_dump(mode="json"),
        "asked": _asked(experiment.require_pruning(), current.amount),
        "reached": {name: metrics[name] for name in _REACHED if name in metrics},
        "spared": dict(Counter(current.model.spared.values())),
    }


def _asked(settings: PruningSettings, amount: float | None) -> dict[str, Any]:
    """What the file asks to be gone or left: a threshold, a share, or a budget and the share that meets it."""
    if settings.threshold is not None:
        return {"threshold": settings.threshold}
    if settings.structure.fixed:
        return settings.structure.model_dump(mode="json")
    if settings.budget is None:
        return {"amount": amount}
    share = {} if isinstance(settings.structure, UnitStructure) else {"amount": amount}
    return {"budget": settings.budget.model_dump(mode="json", exclude_none=True), **share}


def _dense(context: Context, current: PruneRun) -> dict[str, str]:
    """Keep the model that was trained here, so that the next pruning need not train it again."""
    dense: Checkpoint | None = current.dense_checkpoint()
    if context.directory is None or dense is None:
        return {}
    from modelopt_cli.models.files import checkpoints

    path = context.directory.path_of("dense.pt")
    checkpoints.save(path, dense)
    return {"dense": str(path)}


def _program(context: Context, current: PruneRun) -> dict[str, str]:
    """Keep the smaller model as a program that runs without its code."""
    if context.directory is None:
        return {}
    return current.write_program(context.directory.path_of("model.pt2"))
