"""The distill workflow: a student learns from its teacher; teacher, student alone and student stand side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelopt_cli.experiment.expected_metrics import GAP
from modelopt_cli.results.report import Report, Table
from modelopt_cli.workflows import distill_tables, gates, single
from modelopt_cli.workflows.distill_checks import check_distillation
from modelopt_cli.workflows.distill_course import PRINCIPAL
from modelopt_cli.workflows.distill_members import ALONE
from modelopt_cli.workflows.distill_run import SPLITS, DistillRun
from modelopt_cli.workflows.foresight import check_metrics
from modelopt_cli.workflows.over_seeds import over_seeds
from modelopt_cli.workflows.preflight import preflight
from modelopt_cli.workflows.teachers import seen_before

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows.context import Context


def run(experiment: Experiment, context: Context) -> Report:
    """Train whom the section names, judge all on every split, save the student, and a teacher trained here."""
    check_metrics(experiment, context, "distill")
    return over_seeds(_run, experiment, context, _gaps)


def _run(experiment: Experiment, context: Context) -> Report:
    """One seed's run. Stage files go when it has ended, for what they held stands in the run directory."""
    started, clock = datetime.now(UTC).astimezone(), time.perf_counter()
    single.check_resumed(experiment, context)
    preflight(experiment)
    check_distillation(experiment)
    single.record(experiment, context)
    saved = single.load_state(context)
    curve = [] if saved is None else saved[1]
    directory = context.directory
    with TemporaryDirectory(prefix="modelopt-") as scratch:
        own = Path(scratch) if directory is None else directory.path_of(".stages")
        folder = own if context.stages is None else context.stages
        current = DistillRun(experiment, seed=experiment.seed, folder=folder, state=None if saved is None else saved[0])
        single.advance(current, curve, context)
        report = judged(experiment, current, context)
        interrupted = report.status == "interrupted"
        artefacts = {} if interrupted or directory is None else current.keep_teachers(directory)
        if not interrupted:
            rmtree(own, ignore_errors=True)
    tables = {**report.tables, "curve": distill_tables.curve(current.course.curve)}
    report = report.model_copy(
        update={
            "started": started.isoformat(timespec="seconds"),
            "seconds": time.perf_counter() - clock,
            "tables": tables,
            "artefacts": {**single.write(context, tables, report.model, interrupted), **artefacts},
        }
    ).with_model(report.model)
    if directory is not None:
        directory.write_report(report)
    return report


def judged(experiment: Experiment, current: DistillRun, context: Context) -> Report:
    """The report of a run that has ended, or was asked to stop."""
    base = Report(workflow="distill", name=experiment.name, seed=experiment.seed)
    if context.stop:
        return base.model_copy(update={"status": "interrupted", "details": {"dry_run": False}})
    metrics = {**current.metrics(), **current.test_metrics()}
    model = current.checkpoint(metrics)
    return base.model_copy(
        update={
            "metrics": metrics,
            "tables": current.tables(),
            "gates": gates.judge(gates.conditions(experiment, context), metrics),
            "details": _details(experiment, current),
            "warnings": _warnings(experiment, current, metrics),
        }
    ).with_model(model)


def dry_run(experiment: Experiment, context: Context) -> Report:
    """Everything that can be checked without training, and how long it will take."""
    from modelopt_cli.workflows.distill_plan import member_seconds

    check_metrics(experiment, context, "distill")
    preflight(experiment)
    check_distillation(experiment)
    plan = member_seconds(experiment)
    return Report(
        workflow="distill",
        name=experiment.name,
        seed=experiment.seed,
        plan={
            "epochs": sum(epochs for epochs, _ in plan.values()),
            "estimated_seconds": sum(seconds for _, seconds in plan.values()),
            "members": {name: seconds for name, (_, seconds) in plan.items()},
        },
        details={"dry_run": True},
    )


def _details(experiment: Experiment, current: DistillRun) -> dict[str, Any]:
    return {
        "distillation": experiment.require_distillation().model_dump(mode="json"),
        "members": [member.name for member in current.course.members],
        "cached": current.course.cached,
        "dry_run": False,
    }


def _warnings(experiment: Experiment, current: DistillRun, metrics: Mapping[str, float]) -> list[str]:
    found = [
        seen_before(current.course.learned[member.name].checkpoint, experiment, member.name)
        for member in current.course.members
        if member.role == "given"
    ]
    if ALONE not in current.course.learned:
        found.append(
            "the student was not trained alone (baseline: false), so nothing tells what the teacher was worth; "
            f"it would take about {max(current.student.seconds, 0.1):.1f} s"
        )
    elif any(member.settings is not None for member in current.course.members):
        splits = [split for split in SPLITS if getattr(current.course.prepared, split) is not None]
        found += [
            f"no gap to close on the {split} split: the teacher is no better there than the student alone"
            for split in splits
            if f"{split}.{GAP}" not in metrics
        ]
    return [warning for warning in found if warning]


def _gaps(tables: Mapping[str, Table]) -> Mapping[str, float]:
    """How much of the gap was closed, of the means over seeds."""
    found = tables.get("learners")
    if found is None:
        return {}
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    judged = (name for name in PRINCIPAL.values() if f"validation.{name}" in rows[0] or f"test.{name}" in rows[0])
    metric = next(judged, None)  # None: there is neither a validation nor a test split
    return {} if metric is None else distill_tables.gaps(rows, metric)
