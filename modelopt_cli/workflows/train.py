"""The train workflow: one training of the file's model (or one run of its script), judged and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

from modelopt_cli.results.tables import curve_table
from modelopt_cli.tuning.objective import Run
from modelopt_cli.workflows.runs.base import ModelRun
from modelopt_cli.workflows.runs.cross_validation import CrossValidationRun
from modelopt_cli.workflows.runs.opening import open_run, trained_on_all
from modelopt_cli.workflows.runs.script import open_script
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
        seed = experiment.seed
        run = open_script(experiment, seed) if experiment.model is None else open_run(experiment, seed, state=state)
        try:
            yield run
        finally:
            run.close()

    def judged(self, experiment: Experiment, run: Run) -> Outcome:
        """The model judged on the test split too; a script judges itself."""
        metrics, warnings = dict(run.metrics()), list(run.warnings)
        if experiment.model is None:
            return Outcome(metrics, warnings=warnings)
        model_run = _final(experiment, run)
        metrics |= model_run.test_metrics()
        warnings += model_run.warnings
        return Outcome(metrics, {}, model_run.details, warnings, model_run.checkpoint(metrics))

    def tables(self, run: Run, curve: Curve, judged: Mapping[str, Table]) -> dict[str, Table]:
        """`curve`; of a cross-validation also `folds`."""
        if not isinstance(run, CrossValidationRun):
            return {"curve": curve_table(curve, "epoch")}
        folds = list(enumerate(run.results, start=1))
        return {"curve": curve_table(curve, "fold"), "folds": curve_table(folds, "fold")}

    def plan(self, experiment: Experiment) -> Mapping[str, object]:
        """Seconds; a script cannot be run in part."""
        if experiment.model is None:
            return {}
        from modelopt_cli.workflows.runs.timing import training_seconds

        training_seconds(experiment)  # the first one pays for imports and warm-up
        return {"estimated_seconds": training_seconds(experiment)}


def _final(experiment: Experiment, run: Run) -> ModelRun:
    """The run whose model is saved: the training, or after cross-validation one on all development data."""
    if isinstance(run, ModelRun):
        return run
    return trained_on_all(experiment, experiment.seed, run.metrics().get("train.epochs"))


TRAIN = Train()
run, dry_run = TRAIN.run, TRAIN.dry_run
