"""The train workflow: one training of the file's model (or one run of its script), judged and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, final

from modelopt_cli.core.errors import TrialError
from modelopt_cli.results.tables import curve_table
from modelopt_cli.results.trial_files import TrialFiles
from modelopt_cli.tuning.objective import Run
from modelopt_cli.workflows.runs.base import ModelRun
from modelopt_cli.workflows.runs.cross_validation import CrossValidationRun
from modelopt_cli.workflows.runs.opening import open_run, trained_on_all
from modelopt_cli.workflows.runs.script import ScriptRun, open_script
from modelopt_cli.workflows.shared.answer_tables import answer_tables
from modelopt_cli.workflows.shared.model_workflow import ModelWorkflow
from modelopt_cli.workflows.shared.preflight import preflight
from modelopt_cli.workflows.shared.reporting import Outcome

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.results.report import Table
    from modelopt_cli.workflows.shared.context import Context
    from modelopt_cli.workflows.shared.run_files import Curve


@final
class Train(ModelWorkflow[Run]):
    """Trains; or cross-validates, and then trains on all development data."""

    name = "train"
    tells_dry_run = False

    def check(self, experiment: Experiment) -> None:
        """See the base class."""
        preflight(experiment)

    @contextmanager
    def opened(self, experiment: Experiment, context: Context, state: Any) -> Iterator[Run]:
        """A run of the script where the file has no model."""
        with TemporaryDirectory(prefix="modelopt-") if experiment.model is None else nullcontext("") as scratch:
            if experiment.model is None:
                run = open_script(experiment, experiment.seed, _files(context) or TrialFiles(Path(scratch), False))
            else:
                run = open_run(experiment, experiment.seed, state=state)
            with _failing_with_log(context), closing(run):
                yield run

    def kept(self, run: Run, context: Context) -> dict[str, str]:
        """Of a script: its log, and the folder of its own, where it has put something into it."""
        files = _files(context)
        if files is None or not isinstance(run, ScriptRun):
            return {}
        run.close()
        files.remove_empty([0])
        paths = {"log": files.log(0), "trial_dir": files.trial_dir(0)}
        return {name: str(path) for name, path in paths.items() if path is not None and path.exists()}

    def judged(self, experiment: Experiment, run: Run) -> Outcome:
        """The model judged on the test split too; a script judges itself."""
        metrics, warnings = dict(run.metrics()), list(run.warnings)
        if experiment.model is None:
            return Outcome(metrics, warnings=warnings)
        model_run = _final(experiment, run)
        metrics |= model_run.test_metrics()
        warnings += model_run.warnings
        model = model_run.checkpoint(metrics)
        beside, calibration = answer_tables(model_run.answers, model.label_names)
        details = {**model_run.details, **calibration}
        return Outcome(metrics, model_run.tables(), details, [*warnings, *model_run.noise], model, beside)

    def tables(self, run: Run, curve: Curve, judged: Mapping[str, Table]) -> dict[str, Table]:
        """`curve`; of a cross-validation also `folds`; `latency` where the file asks for it."""
        if not isinstance(run, CrossValidationRun):
            return {"curve": curve_table(curve, "epoch"), **judged}
        folds = list(enumerate(run.results, start=1))
        return {"curve": curve_table(curve, "fold"), "folds": curve_table(folds, "fold")}

    def plan(self, experiment: Experiment) -> Mapping[str, object]:
        """Seconds; a script cannot be run in part."""
        if experiment.model is None:
            return {}
        from modelopt_cli.workflows.runs.timing import training_seconds

        training_seconds(experiment)  # the first one pays for imports and warm-up
        return {"estimated_seconds": training_seconds(experiment)}


@contextmanager
def _failing_with_log(context: Context) -> Iterator[None]:
    """The failure of a script says where all that it wrote is."""
    files = _files(context)
    log = None if files is None else files.log(0)
    try:
        yield
    except TrialError as error:
        if log is None or not log.is_file():
            raise
        raise TrialError(error.kind, f"{error.reason}. All that it wrote is in {log}") from None


def _files(context: Context) -> TrialFiles | None:
    """Where what a script leaves is kept; None: nowhere."""
    return None if context.directory is None else TrialFiles(context.directory.path)


def _final(experiment: Experiment, run: Run) -> ModelRun:
    """The run whose model is saved: the training, or after cross-validation one on all development data."""
    if isinstance(run, ModelRun):
        return run
    return trained_on_all(experiment, experiment.seed, run.metrics().get("train.epochs"))


TRAIN = Train()
run, dry_run = TRAIN.run, TRAIN.dry_run
