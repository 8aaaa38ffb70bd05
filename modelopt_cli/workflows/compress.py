"""The compress workflow: train (or load), distill, prune, recover, quantize, export; a row for the model after each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast, final

from modelopt_cli.core.consent import NOTHING
from modelopt_cli.experiment.pipeline import stages_of
from modelopt_cli.experiment.stages import ExportSettings
from modelopt_cli.results.details import CompressionDetails
from modelopt_cli.tuning.objective import Part
from modelopt_cli.workflows import export
from modelopt_cli.workflows.compression.checks import check_stages
from modelopt_cli.workflows.compression.run import CompressRun, FinishedStage
from modelopt_cli.workflows.compression.stage_cache import StageCache
from modelopt_cli.workflows.distill import DISTILL
from modelopt_cli.workflows.prune import PRUNE
from modelopt_cli.workflows.shared.answer_tables import answer_tables
from modelopt_cli.workflows.shared.context import Context, Message
from modelopt_cli.workflows.shared.model_workflow import ModelWorkflow
from modelopt_cli.workflows.shared.reporting import Outcome, Reporting
from modelopt_cli.workflows.train import TRAIN

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Kind, Report, Table
    from modelopt_cli.workflows.compression.stages import Stage
    from modelopt_cli.workflows.quantization.run import QuantizeRun
    from modelopt_cli.workflows.runs.base import ModelRun
    from modelopt_cli.workflows.shared.run_files import Curve

_STAGES = ".stages"  # beside the runs of an experiment, who share it; of a run that lies alone, in its folder
_WORKFLOWS: Mapping[str, ModelWorkflow[Any]] = {"train": TRAIN, "distill": DISTILL, "prune": PRUNE}


@final
class Compress(ModelWorkflow[CompressRun]):
    """Runs the stages that are not in the cache; saves the last model, and files made of it."""

    name = "compress"
    closing = (Part("judging", seconds=5.0),)

    def check(self, experiment: Experiment) -> None:
        """See the base class; every stage must be able to begin."""
        check_stages(experiment)

    @contextmanager
    def opened(self, experiment: Experiment, context: Context, state: Any) -> Iterator[CompressRun]:
        """Stages lie beside the runs of the same name, so that the next run begins where its file differs."""
        with TemporaryDirectory(prefix="modelopt-") as scratch:
            folder = context.stages or _stage_folder(context) or Path(scratch)
            run = CompressRun(experiment, StageCache(folder), state=state, finish=partial(_finish, experiment))
            for name, record in zip(run.taken, run.models.records, strict=False):
                context.emit(Message(f"the stage {name} is done already: taken from {record.folder}"))
            yield run

    def judged(self, experiment: Experiment, run: CompressRun) -> Outcome:
        """The last model judged and measured beside those before it."""
        metrics = {**run.metrics(), **run.test_metrics()}
        model = run.checkpoint(metrics)
        tables = run.tables()
        details: CompressionDetails = {
            "pipeline": list(stages_of(experiment)),
            "taken": list(run.taken),
            "dry_run": False,
        }
        beside, calibration = answer_tables(run.answers, model.label_names)
        about: dict[str, object] = {**details, **run.details, **calibration}
        return Outcome(metrics, tables, about, [*run.warnings, *run.noise], model, beside)

    def tables(self, run: CompressRun, curve: Curve, judged: Mapping[str, Table]) -> dict[str, Table]:
        """See the base class; the curve is that of the stages which were run."""
        return {**judged, "curve": run.curve_table()}

    def kept(self, run: CompressRun, context: Context) -> dict[str, str]:
        """The stages' own folders, and the files that the last model is exported to."""
        if context.directory is None:
            return {}
        kept = {}
        for number, (stage, record) in enumerate(zip(run.stages, run.models.records, strict=True), start=1):
            target = context.directory.path_of("stages") / f"{number}-{stage.name}"
            rmtree(target, ignore_errors=True)
            copytree(record.folder, target)
            kept[f"stage {number}: {stage.name}"] = str(target)
        files = run.kept_files(context.directory.path, "model")
        return {
            **kept,
            **{what: str(path) for what, path in files.items()},
            **_exported(run.experiment, context.directory.path),
        }

    def plan(self, experiment: Experiment) -> Mapping[str, object]:
        """Epochs and seconds of each stage."""
        from modelopt_cli.workflows.compression.estimate import choosing_of_stages, seconds_of_stages

        stages = seconds_of_stages(experiment)
        passes, seconds = choosing_of_stages(experiment)
        cost = {"allocation_passes": passes, "allocation_seconds": seconds} if passes else {}
        return {"estimated_seconds": sum(stages.values()) + seconds, "members": stages, **cost}

    def kind(self, experiment: Experiment) -> Kind:
        """See the base class."""
        return "compression"


def _exported(experiment: Experiment, folder: Path) -> dict[str, str]:
    """The run's model.pt in the formats that the file asks for: format -> path."""
    if "export" not in stages_of(experiment):
        return {}
    settings = experiment.export or ExportSettings()
    written: dict[str, str] = {}
    for name in settings.formats:
        path = folder / f"model.{name}"
        export.run(folder / "model.pt", path, force=True, trust_code=experiment.consent != NOTHING, bare=settings.bare)
        written[name] = str(path)
    return written


def _stage_folder(context: Context) -> Path | None:
    if context.directory is None:
        return None
    path = context.directory.path
    return path.parent / _STAGES if path.name.isdigit() else path / _STAGES


def _finish(whole: Experiment, stage: Stage, experiment: Experiment, run: ModelRun) -> FinishedStage:
    """A stage's report is that of the command that does the same alone; for a quantization there is none."""
    reporting = Reporting(experiment.model_copy(update={"gates": (), "name": f"{whole.name}: {stage.title}"}))
    workflow = _WORKFLOWS.get(stage.name)
    with reporting.log.recording():
        if workflow is None:
            outcome = _quantized(experiment, cast("QuantizeRun", run))
        else:
            outcome = workflow.judged(experiment, run)
            outcome = replace(outcome, tables=workflow.tables(run, [], outcome.tables))
    assert outcome.model is not None
    kind: Kind = "compression" if workflow is None else workflow.kind(experiment)
    report = reporting.report(kind, "compress" if workflow is None else workflow.name, outcome)
    rows: dict[str, Mapping[str, float]] = {stage.name: outcome.metrics}
    if stage.recovers:
        pruned = {str(row["stage"]): row for row in report.records("stages")}.get("pruned", {})
        raw = {name: value for name, value in pruned.items() if isinstance(value, float) and "." in name}
        rows = {"prune": raw, "recover": outcome.metrics}
    return FinishedStage(outcome.model, rows, partial(_write_report, report, experiment))


def _quantized(experiment: Experiment, run: QuantizeRun) -> Outcome:
    """The model in float and the file."""
    metrics = {**run.metrics(), **run.test_metrics()}
    settings: dict[str, object] = {"quantization": experiment.require_quantization().model_dump(mode="json")}
    return Outcome(metrics, run.tables(), settings, run.warnings, run.checkpoint(metrics))


def _write_report(report: Report, experiment: Experiment, folder: Path) -> None:
    from modelopt_cli.results.run_directory import RunDirectory

    with RunDirectory(folder) as directory:
        directory.write_experiment(experiment.written())
        for name, table in {**report.tables, **report.beside}.items():
            directory.write_table(name, table)
        directory.write_report(report, page=experiment.report)


COMPRESS = Compress()
run, dry_run = COMPRESS.run, COMPRESS.dry_run
