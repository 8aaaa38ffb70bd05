"""The distill workflow: a student learns from its teacher; teacher, student alone and student stand side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.results.report import Report, Table
from modelopt_cli.workflows import distill_tables, gates, single, slim_tables
from modelopt_cli.workflows.distill_checks import check_members
from modelopt_cli.workflows.distill_course import PRINCIPAL
from modelopt_cli.workflows.distill_members import ALONE, members
from modelopt_cli.workflows.distill_run import DistillRun
from modelopt_cli.workflows.over_seeds import over_seeds
from modelopt_cli.workflows.preflight import preflight
from modelopt_cli.workflows.resume import check_unchanged

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows.context import Context


def run(experiment: Experiment, context: Context) -> Report:
    """Train whom the section names, judge all on every split, save the student, and a teacher trained here."""
    return over_seeds(_run, experiment, context, _gaps)


def _run(experiment: Experiment, context: Context) -> Report:
    """One seed's run."""
    started, clock = datetime.now(UTC).astimezone(), time.perf_counter()
    directory = context.directory
    if context.resume and directory is not None and directory.path_of("experiment.yaml").exists():
        check_unchanged(directory.path, experiment.resolved())
    check(experiment)
    if directory is not None:
        directory.write_experiment(experiment.resolved())
        directory.write_environment(seed=experiment.seed, device=experiment.device)
    saved = single.load_state(context)
    curve = [] if saved is None else saved[1]
    folder = None if directory is None else directory.path_of(".stages")
    current = DistillRun(experiment, seed=experiment.seed, folder=folder, state=None if saved is None else saved[0])
    single.advance(current, curve, context)
    report = judged(experiment, current, context)
    interrupted = report.status == "interrupted"
    tables = {**report.tables, "curve": distill_tables.curve(current.course.curve)}
    artefacts = {} if interrupted else _teachers(context, current)
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
    rows, compared = _costs(current)
    metrics |= slim_tables.metrics(rows)
    tables = {**current.tables(), "costs": distill_tables.costs(rows, compared=compared)}
    return base.model_copy(
        update={
            "metrics": metrics,
            "tables": tables,
            "gates": gates.judge(gates.conditions(experiment, context), metrics),
            "details": _details(experiment, current),
            "warnings": _warnings(current),
        }
    ).with_model(model)


def dry_run(experiment: Experiment, context: Context) -> Report:
    """Everything that can be checked without training, and how long it will take."""
    from modelopt_cli.workflows.distill_plan import member_seconds

    check(experiment)
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


def check(experiment: Experiment) -> None:
    """Raise UsageError for what cannot be distilled: also teachers of other data, and taps that are not there."""
    settings = experiment.require_distillation()
    model = experiment.require_model()
    if model.framework != "torch":
        raise UsageError(
            f"the student is {model.name()}, but distillation trains torch models (a teacher may be of scikit-learn); "
            "use another model"
        )
    if experiment.evaluation.cv is not None:
        raise UsageError(
            "a distillation is judged on the validation split, not by cross-validation; leave out evaluation.cv"
        )
    experiment.require_training()
    preflight(experiment)
    check_members(experiment, members(experiment, experiment.seed, baseline=settings.baseline))


def _costs(current: DistillRun) -> tuple[list[dict[str, Any]], bool]:
    """What the student costs, measured in turns with its (first) teacher where that is a torch module, and whether."""
    from modelopt_cli.models import checkpoints
    from modelopt_cli.models.measure import example

    student = current.student.checkpoint
    teachers = [one.checkpoint for name, one in current.course.learned.items() if name.startswith("teacher")]
    compared = bool(teachers) and teachers[0].architecture.framework == "torch"
    pair = [teachers[0] if compared else student, student]
    before, after = (one.model.to("cpu") for one in pair)
    files = (checkpoints.file_sizes(pair[0])[0], checkpoints.file_sizes(pair[1])[0])
    inputs = example(current.course.prepared.shapes, max(slim_tables.BATCH_SIZES))
    return slim_tables.compare(before, after, inputs, files), compared


def _details(experiment: Experiment, current: DistillRun) -> dict[str, Any]:
    return {
        "distillation": experiment.require_distillation().model_dump(mode="json"),
        "members": [member.name for member in current.course.members],
        "cached": current.course.cached,
        "dry_run": False,
    }


def _warnings(current: DistillRun) -> list[str]:
    if ALONE in current.course.learned:
        return []
    seconds = current.student.seconds
    return [
        "the student was not trained alone (baseline: false), so nothing tells what the teacher was worth; "
        f"it would take about {seconds:.0f} s"
    ]


def _teachers(context: Context, current: DistillRun) -> dict[str, str]:
    """Keep the teachers that were trained here, so that the next distillation need not train them again."""
    if context.directory is None:
        return {}
    from modelopt_cli.models import checkpoints

    found = {}
    for member in current.course.members:
        if member.role == "teacher":
            path: Path = context.directory.path_of(f"{member.name.replace(' ', '_')}.pt")
            learned = current.course.learned[member.name]
            judged = {
                **current.judge(learned, learned.kept, "validation"),
                **current.judge(learned, learned.kept, "test"),
            }
            checkpoints.save(path, replace(learned.checkpoint, metrics=judged))
            found[member.name] = str(path)
    return found


def _gaps(tables: Mapping[str, Table]) -> Mapping[str, float]:
    """How much of the gap was closed, of the means over seeds."""
    found = tables.get("learners")
    if found is None:
        return {}
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    metric = next(
        name
        for name in dict.fromkeys(PRINCIPAL.values())
        if f"validation.{name}" in rows[0] or f"test.{name}" in rows[0]
    )
    return distill_tables.gaps(rows, metric)
