"""The prune workflow: train or load, prune, validate, recover, validate; before, after and recovered side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.structures import UnitStructure
from modelopt_cli.results.details import PruningDetails
from modelopt_cli.results.tables import curve_table
from modelopt_cli.tuning.objective import Part
from modelopt_cli.workflows.pruning.choosing import choosing_cost
from modelopt_cli.workflows.pruning.phases import needs_training, planned_epochs
from modelopt_cli.workflows.pruning.recovery_teacher import check_recovery
from modelopt_cli.workflows.pruning.run import PruneRun
from modelopt_cli.workflows.shared import costs, data_cache
from modelopt_cli.workflows.shared.answer_tables import answer_tables
from modelopt_cli.workflows.shared.context import StageBegun
from modelopt_cli.workflows.shared.model_workflow import ModelWorkflow
from modelopt_cli.workflows.shared.preflight import preflight
from modelopt_cli.workflows.shared.reporting import Outcome

_REACHED = (
    "pruning.sparsity",
    "pruning.units_removed",
    "model.nonzero",
    "model.parameters",
    "model.flops",
    "model.file_bytes",
    "model.compressed_bytes",
)

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.pruning.settings import PruningSettings
    from modelopt_cli.results.report import Kind, Table
    from modelopt_cli.workflows.shared.context import Context
    from modelopt_cli.workflows.shared.run_files import Curve


@final
class Prune(ModelWorkflow[PruneRun]):
    """Trains or loads, prunes, recovers; saves the pruned model, and the dense one where it was trained here."""

    name = "prune"
    closing = (Part("judging", like=(("recover", 0.6),), seconds=4.0),)  # of three models; latencies; a program
    opening_refuses = True  # what can lose nothing is found out when the model is looked at

    def check(self, experiment: Experiment) -> None:
        """See the base class; nor may it be left open what there is to prune."""
        check_parts(experiment)
        needs_training(experiment)

    @contextmanager
    def opened(self, experiment: Experiment, context: Context, state: Any) -> Iterator[PruneRun]:
        """See the base class."""
        context.emit(StageBegun("building the model, and looking for what may go"))
        yield PruneRun(experiment, data_cache.prepared_data(experiment), seed=experiment.seed, state=state)

    def judged(self, experiment: Experiment, run: PruneRun) -> Outcome:
        """See the base class."""
        return judged(experiment, run)

    def tables(self, run: PruneRun, curve: Curve, judged: Mapping[str, Table]) -> dict[str, Table]:
        """See the base class."""
        return {"curve": curve_table(curve, "step"), **judged}

    def kept(self, run: PruneRun, context: Context) -> dict[str, str]:
        """The model before pruning, and the program of the pruned one."""
        context.emit(StageBegun("writing the model that there was before, and the program of the new one"))
        return {**_dense(context, run), **_program(context, run)}

    def plan(self, experiment: Experiment) -> Mapping[str, object]:
        """Epochs and seconds."""
        from modelopt_cli.workflows.runs.timing import training_seconds

        epochs = planned_epochs(experiment, shared=False)
        training_seconds(experiment, epochs)  # the first one pays for imports and warm-up
        passes, seconds = choosing_cost(experiment)
        cost = {"allocation_passes": passes, "allocation_seconds": seconds} if passes else {}
        return {"epochs": epochs, "estimated_seconds": training_seconds(experiment, epochs) + seconds, **cost}

    def kind(self, experiment: Experiment) -> Kind:
        """See the base class."""
        return kind_of(experiment)


def kind_of(experiment: Experiment) -> Kind:
    """The kind of the report on a pruning: units are told of otherwise than weights."""
    return "units" if isinstance(experiment.require_pruning().structure, UnitStructure) else "pruning"


def judged(experiment: Experiment, current: PruneRun) -> Outcome:
    """The pruned model judged on every split."""
    metrics = {**current.metrics(), **current.test_metrics()}
    model = current.checkpoint(metrics)
    beside, calibration = answer_tables(current.answers, model.label_names)
    about: dict[str, object] = {**details(experiment, current, metrics), **current.details, **calibration}
    return Outcome(metrics, current.tables(), about, [*current.warnings, *current.noise], model, beside)


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


def details(experiment: Experiment, current: PruneRun, metrics: Mapping[str, float]) -> PruningDetails:
    """What was asked for, and what was reached."""
    cuts, passes = current.model.probed
    probed: PruningDetails = {"probed": {"cuts": cuts, "passes": passes}} if cuts else {}
    return {
        **probed,
        "pruning": experiment.require_pruning().model_dump(mode="json"),
        "asked": _asked(experiment.require_pruning(), current.amount),
        "reached": {name: metrics[name] for name in _reached(experiment) if name in metrics},
        "spared": dict(Counter(current.model.spared.values())),
    }


def _reached(experiment: Experiment) -> tuple[str, ...]:
    """Metrics that tell what was reached."""
    return (*_REACHED, *costs.timing(experiment).metrics)


def _asked(settings: PruningSettings, amount: float | None) -> dict[str, object]:
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


PRUNE = Prune()
run, dry_run = PRUNE.run, PRUNE.dry_run
