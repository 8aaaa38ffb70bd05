"""What happens to the best setting of a search: saved, trained again on request, and judged once on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any, Literal

from modelopt_cli.core.conditions import Condition
from modelopt_cli.core.consent import NOTHING
from modelopt_cli.experiment.expected_metrics import Workflow, expect_metrics
from modelopt_cli.tuning.trials.lineage import lineage
from modelopt_cli.workflows.factory import kept_model, noted_warnings, open_compression, open_distillation, open_pruning
from modelopt_cli.workflows.runs.base import RestorableRun
from modelopt_cli.workflows.runs.opening import open_single, trained_on_all
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.answer_tables import answer_tables

if TYPE_CHECKING:
    from modelopt_cli.core.consent import Consent
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Table
    from modelopt_cli.tuning.search.settings import TuningSettings
    from modelopt_cli.tuning.trials.trial import Trial
    from modelopt_cli.workflows.runs.base import ModelRun
    from modelopt_cli.workflows.shared.context import Context


_ALONE = (
    "# These are the last settings of a model that had others before step {}: see schedule.csv. Run alone, they train\n"
    "# another model from scratch; the one that was found is model.pt.\n"
)
_REMARK = (
    "the best model came about by several settings, one after the other (table schedule): best.yaml holds those from "
    "step {} on, which trained from scratch give another model; the one that was found is model.pt"
)


@dataclass(frozen=True)
class BestModel:
    """The finished best setting."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    artefacts: dict[str, str] = field(default_factory=dict)
    model: Checkpoint | None = None
    warnings: list[str] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    beside: dict[str, Table] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)


def command_of(settings: TuningSettings) -> Literal["train", "prune", "distill", "compress"]:
    """The command that runs a trial's setting by itself; `modelopt train` runs scripts, too."""
    return "train" if settings.workflow == "command" else settings.workflow


def finalize_best(
    experiment: Experiment,
    best: Trial,
    keep: Path,
    context: Context,
    folder: Path,
    dense: str | None = None,
    trials: Sequence[Trial] = (),
    *,
    finished: ModelRun | None = None,
) -> BestModel:
    """Write best.yaml and model.pt, and read the test split for the first time.

    `dense`: the trained model that all trials pruned; it is kept as dense.pt, which best.yaml starts from. `folder`:
    where the teachers of a distillation lie; those that the best trial had are kept likewise. `trials`: all of the
    search, for a best one that went on from the state of another. `finished`: its run, where it has just been run.
    """
    settings, legs = experiment.require_tuning(), lineage(trials, best)
    chosen = experiment.with_values(best.params)
    artefacts: dict[str, str] = {}
    distilling = open_distillation(chosen, best.seed, folder=folder) if settings.workflow == "distill" else None
    if context.directory is not None:
        workflow = command_of(settings)
        # (the trials of a compression have the experiment's seed)
        seed = experiment.seed if settings.workflow == "compress" else best.seed
        document = standing_alone(chosen, seed, workflow)
        if distilling is not None:
            artefacts |= distilling.keep_teachers(context.directory)
            _name_teachers(document["distillation"], artefacts, chosen)
        if dense is not None:
            copyfile(dense, context.directory.path_of("dense.pt"))
            document["model"] = {"type": "checkpoint", "path": "dense.pt", **_trusted(chosen)}
        context.directory.write_best(
            chosen.written(document), workflow, _ALONE.format(best.born) if len(legs) > 1 else ""
        )
        artefacts["best"] = str(context.directory.path_of("best.yaml"))
    if settings.workflow == "command":
        return BestModel(artefacts=artefacts)
    if finished is not None:
        run = finished
    elif settings.workflow == "prune":
        pruning = open_pruning(chosen, best.seed, dense=dense)
        # What the trial trained itself is not kept, but is what the pruned model is compared with: it is run again.
        steps = _steps(experiment, best)
        run = _as_in_trial(pruning, best, keep, steps, chosen.consent) if dense is not None else _again(pruning, steps)
    elif settings.workflow == "compress":
        compressing = open_compression(chosen, best.seed, folder=folder)
        run = _as_in_trial(compressing, best, keep, None, chosen.consent)
    elif distilling is not None:
        run = _as_in_trial(distilling, best, keep, _steps(experiment, best), chosen.consent)
    else:
        run = _trained(chosen, legs, keep, settings.refit is not None)
    judged = run.full_metrics()
    # Of what a model costs a search measures only what it looks at; what it measured stands.
    metrics = {**run.costs(judged), **best.metrics, **judged, **run.test_metrics()}
    checkpoint = run.checkpoint({**best.metrics, **metrics})
    if context.directory is not None:
        from modelopt_cli.models.files import checkpoints

        checkpoints.save(context.directory.path_of("model.pt"), checkpoint)
        artefacts["model"] = str(context.directory.path_of("model.pt"))
        if isinstance(run, RestorableRun):
            artefacts |= {what: str(path) for what, path in run.kept_files(context.directory.path, "model").items()}
    warnings = [_REMARK.format(best.born)] if len(legs) > 1 else []
    tables = run.tables()
    warnings += [*noted_warnings(keep, best.seed), *run.warnings, *run.noise]
    beside, calibration = answer_tables(run.answers, checkpoint.label_names)
    return BestModel(metrics, artefacts, checkpoint, warnings, tables, beside, {**run.details, **calibration})


def _name_teachers(section: dict[str, Any], kept: Mapping[str, str], experiment: Experiment) -> None:
    """The teachers that were trained here are those files, beside best.yaml."""
    for name, path in kept.items():
        named = {"path": Path(path).name, **_trusted(experiment)}
        if name == "teacher":
            section["teacher"] = named
        else:
            number = int(name.rpartition(" ")[2]) - 1
            section["teachers"][number] = {**named, "weight": section["teachers"][number]["weight"]}


def _trusted(experiment: Experiment) -> dict[str, bool]:
    """For a file that was made from this experiment here: it may run the code that the experiment names."""
    return {"trust_code": True} if experiment.consent != NOTHING else {}


def standing_alone(experiment: Experiment, seed: int, workflow: Workflow) -> dict[str, Any]:
    """The experiment as a file that repeats this very training: no search, seeds written out.

    Without gates on what a search alone reports.
    """
    document = {key: value for key, value in experiment.resolved().items() if key != "tuning"}
    document["seed"] = seed
    foreseen = expect_metrics(experiment, workflow)
    if foreseen is not None:
        gates = [gate for gate in experiment.gates if Condition.parse(gate).metric in foreseen.possible]
        document["gates"] = gates
    if experiment.data is not None and document.get("data") is not None:
        document["data"] = data_cache.pinned_data(experiment)
    return document


def _trained(experiment: Experiment, legs: Sequence[Trial], keep: Path, refit: bool) -> ModelRun:
    """The best setting's model: the one its trial left, or trained (again) on all it may see."""
    best = legs[-1]
    whole = refit or experiment.evaluation.cv is not None
    if not whole:
        state = None if kept_model(keep, best.seed).exists() else _inherited(experiment, legs)
        run = open_single(experiment, data_cache.prepared_data(experiment), best.seed, state=state)
        return _as_in_trial(run, best, keep, _steps(experiment, best), experiment.consent)
    return trained_on_all(experiment, best.seed, best.metrics.get("train.epochs"))


def _inherited(experiment: Experiment, legs: Sequence[Trial]) -> Any:
    """The state that the best trial went on from, computed again leg by leg; None for one that began at step 0."""
    state = None
    for trial, after in pairwise(legs):
        setting = experiment.with_values(trial.params)
        run = open_single(setting, data_cache.prepared_data(setting), trial.seed, state=state)
        run.advance(after.born)
        state = run.state()
    return state


def _as_in_trial(run: ModelRun, best: Trial, keep: Path, steps: int | None, consent: Consent) -> ModelRun:
    """The run with the model that the trial left, or run again as far as the trial went."""
    from modelopt_cli.models.files import checkpoints

    kept = kept_model(keep, best.seed)
    if isinstance(run, RestorableRun) and kept.exists():
        run.restore(checkpoints.load(kept, consent))
    else:
        _again(run, steps)
    return run


def _again(run: ModelRun, steps: int | None) -> ModelRun:
    """The run up to so many steps; None: to its end."""
    run.advance(run.total if steps is None else min(run.total, steps))
    return run


def _steps(experiment: Experiment, best: Trial) -> int | None:
    """How far the trial went; None: to the end. (Steps of tuning.fidelity are none of the training's own.)"""
    return best.curve[-1].step if best.curve and experiment.require_tuning().fidelity is None else None
