"""The distill workflow: a student learns from its teacher; teacher, student alone and student stand side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, final

from modelopt_cli.results.details import DistillationDetails
from modelopt_cli.tuning.objective import Part
from modelopt_cli.workflows.distillation.checks import check_distillation
from modelopt_cli.workflows.distillation.comparison import PRINCIPAL, gaps
from modelopt_cli.workflows.distillation.run import DistillRun
from modelopt_cli.workflows.shared.answer_tables import answer_tables
from modelopt_cli.workflows.shared.model_workflow import ModelWorkflow
from modelopt_cli.workflows.shared.preflight import preflight
from modelopt_cli.workflows.shared.reporting import Outcome

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Kind, Table
    from modelopt_cli.workflows.shared.context import Context
    from modelopt_cli.workflows.shared.run_files import Curve

_STAGES = ".stages"  # of a run directory: whom the distillation has trained so far


@final
class Distill(ModelWorkflow[DistillRun]):
    """Trains whom the section names; saves the student, and a teacher trained here."""

    name = "distill"
    closing = (Part("judging", seconds=2.0),)

    def check(self, experiment: Experiment) -> None:
        """See the base class."""
        preflight(experiment)
        check_distillation(experiment)

    @contextmanager
    def opened(self, experiment: Experiment, context: Context, state: Any) -> Iterator[DistillRun]:
        """Stage files lie in the run directory, where several runs share them in a folder that the context names."""
        with TemporaryDirectory(prefix="modelopt-") as scratch:
            own = Path(scratch) if context.directory is None else context.directory.path_of(_STAGES)
            folder = own if context.stages is None else context.stages
            yield DistillRun(experiment, seed=experiment.seed, folder=folder, state=state)

    def judged(self, experiment: Experiment, run: DistillRun) -> Outcome:
        """The student, and whom it is compared with, judged on every split."""
        metrics = {**run.metrics(), **run.test_metrics()}
        model = run.checkpoint(metrics)
        tables = run.tables()
        details: DistillationDetails = {
            "distillation": experiment.require_distillation().model_dump(mode="json"),
            "members": [job.name for job in run.jobs],
            "cached": run.cached,
            "dry_run": False,
        }
        beside, calibration = answer_tables(run.answers, model.label_names)
        about = {**details, **run.details, **calibration}
        return Outcome(metrics, tables, about, [*run.warnings, *run.noise], model, beside)

    def tables(self, run: DistillRun, curve: Curve, judged: Mapping[str, Table]) -> dict[str, Table]:
        """See the base class; the curve is that of all who were trained."""
        return {**judged, "curve": run.curve_table()}

    def kept(self, run: DistillRun, context: Context) -> dict[str, str]:
        """The teachers that were trained here; the run's own stage files go, for what they held is kept now."""
        if context.directory is None:
            return {}
        teachers = run.keep_teachers(context.directory)
        rmtree(context.directory.path_of(_STAGES), ignore_errors=True)
        return teachers

    def plan(self, experiment: Experiment) -> Mapping[str, object]:
        """Epochs and seconds, in all and of each that is trained."""
        from modelopt_cli.workflows.distillation.estimate import seconds_of_jobs

        seconds_of = seconds_of_jobs(experiment)
        return {
            "epochs": sum(epochs for epochs, _ in seconds_of.values()),
            "estimated_seconds": sum(seconds for _, seconds in seconds_of.values()),
            "members": {name: seconds for name, (_, seconds) in seconds_of.items()},
        }

    def derived(self, tables: Mapping[str, Table]) -> Mapping[str, float]:
        """How much of the gap was closed, of the means over seeds."""
        learners = tables.get("learners")
        if learners is None:
            return {}
        rows = learners.records()
        judged = (name for name in PRINCIPAL.values() if f"validation.{name}" in rows[0] or f"test.{name}" in rows[0])
        metric = next(judged, None)  # None: there is neither a validation nor a test split
        return {} if metric is None else gaps(rows, metric)

    def kind(self, experiment: Experiment) -> Kind:
        """See the base class."""
        return "distillation"


DISTILL = Distill()
run, dry_run = DISTILL.run, DISTILL.dry_run
