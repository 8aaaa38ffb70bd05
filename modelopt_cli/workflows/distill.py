"""The distill workflow: a student learns from its teacher; teacher, student alone and student stand side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelopt_cli.workflows.distillation import tables as distill_tables
from modelopt_cli.workflows.distillation.checks import check_distillation
from modelopt_cli.workflows.distillation.pipeline import PRINCIPAL
from modelopt_cli.workflows.distillation.run import DistillRun
from modelopt_cli.workflows.shared import run_files
from modelopt_cli.workflows.shared.context import StageBegun
from modelopt_cli.workflows.shared.metric_checks import check_metrics
from modelopt_cli.workflows.shared.over_seeds import over_seeds
from modelopt_cli.workflows.shared.preflight import preflight
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting, planned
from modelopt_cli.workflows.shared.run_scope import one_run

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Report, Table
    from modelopt_cli.workflows.shared.context import Context


@one_run()
def run(experiment: Experiment, context: Context) -> Report:
    """Train whom the section names, judge all on every split, save the student, and a teacher trained here."""
    check_metrics(experiment, context, "distill")
    return over_seeds(_run, experiment, context, _gaps)


def _run(experiment: Experiment, context: Context) -> Report:
    """One seed's run. Stage files go when it has ended, for what they held stands in the run directory."""
    reporting = Reporting(experiment, context)
    run_files.check_resumed(experiment, context)
    preflight(experiment)
    check_distillation(experiment)
    run_files.record(experiment, context)
    saved = run_files.load_state(context)
    curve = [] if saved is None else saved[1]
    directory = context.directory
    with TemporaryDirectory(prefix="modelopt-") as scratch, reporting.log.recording():
        own = Path(scratch) if directory is None else directory.path_of(".stages")
        folder = own if context.stages is None else context.stages
        current = DistillRun(experiment, seed=experiment.seed, folder=folder, state=None if saved is None else saved[0])
        run_files.advance(current, curve, context)
        interrupted = bool(context.stop)
        context.emit(StageBegun("saving what was done" if interrupted else "judging and measuring what came of it"))
        stopped = Outcome(details={"dry_run": False}, warnings=current.warnings)
        outcome = stopped if interrupted else judged(experiment, current)
        artefacts = {} if interrupted or directory is None else current.keep_teachers(directory)
        if not interrupted:
            rmtree(own, ignore_errors=True)
        tables = {**outcome.tables, "curve": distill_tables.curve(current.course.curve)}
        artefacts = {**run_files.write(context, tables, outcome.model, interrupted), **artefacts}
    return reporting.report(
        "distillation", "distill", replace(outcome, tables=tables), interrupted=interrupted, artefacts=artefacts
    )


def judged(experiment: Experiment, current: DistillRun) -> Outcome:
    """The student, and whom it is compared with, judged on every split."""
    metrics = {**current.metrics(), **current.test_metrics()}
    model = current.checkpoint(metrics)
    tables = current.tables()
    warnings = [*current.warnings, *current.noise]
    return Outcome(metrics, tables, _details(experiment, current), warnings, model)


@one_run()
def dry_run(experiment: Experiment, context: Context) -> Report:
    """Everything that can be checked without training, and how long it will take."""
    from modelopt_cli.workflows.distillation.estimate import member_seconds

    check_metrics(experiment, context, "distill")
    preflight(experiment)
    check_distillation(experiment)
    plan = member_seconds(experiment)
    estimated = {
        "epochs": sum(epochs for epochs, _ in plan.values()),
        "estimated_seconds": sum(seconds for _, seconds in plan.values()),
        "members": {name: seconds for name, (_, seconds) in plan.items()},
    }
    return planned("distill", experiment, estimated, {"dry_run": True})


def _details(experiment: Experiment, current: DistillRun) -> dict[str, Any]:
    return {
        "distillation": experiment.require_distillation().model_dump(mode="json"),
        "members": [member.name for member in current.course.members],
        "cached": current.course.cached,
        "dry_run": False,
    }


def _gaps(tables: Mapping[str, Table]) -> Mapping[str, float]:
    """How much of the gap was closed, of the means over seeds."""
    found = tables.get("learners")
    if found is None:
        return {}
    rows = found.records()
    judged = (name for name in PRINCIPAL.values() if f"validation.{name}" in rows[0] or f"test.{name}" in rows[0])
    metric = next(judged, None)  # None: there is neither a validation nor a test split
    return {} if metric is None else distill_tables.gaps(rows, metric)
