"""Whether the metrics that a file names will be reported: by objectives, constraints, gates, rules and monitors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.experiment.document.marks import Finding, Path, Rejected
from modelopt_cli.experiment.expected_metrics import (
    DEVIATION,
    SPLITS,
    Known,
    Outlook,
    Workflow,
    listed,
    nearest,
    outlook,
)
from modelopt_cli.training.metrics.names import metric_name, names
from modelopt_cli.training.settings import TrainingSettings

if TYPE_CHECKING:
    from modelopt_cli.distillation.settings import LearnerSettings
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.pruning.settings import Recovery
    from modelopt_cli.tuning.space.space import Space

Setting = Mapping[str, Any]
Expectation = tuple[Outlook, Setting]
"""What is known of a trial's metrics, and one of the settings of which it is true."""

CORNERS = 2000
"""Settings that are tried on the file at most."""
_TELLING = ("model", "pruning", "distillation")  # sections whose choices change what there is to report


def metric_findings(experiment: Experiment, known: Known | None = None) -> list[Finding]:
    """What holds whatever the workflow: the user's own metrics, and what trainings are monitored by."""
    found = outlook(experiment, "train", known=known)
    return [] if found is None else [*_own(experiment, found), *_monitors(experiment, found)]


def expectations(experiment: Experiment, space: Space) -> list[Expectation]:
    """What is known of the trials' metrics, each kind of trial once; empty for a script."""
    workflow, found = experiment.require_tuning().workflow, dict[Outlook, Setting]()
    for setting in islice(space.corners(), CORNERS):
        try:
            trial = experiment.attempt(setting)
        except Rejected:  # told elsewhere; of an experiment that was changed in Python, by the trial itself
            continue
        foreseen = outlook(trial, workflow, searched=True)
        if foreseen is not None:
            found.setdefault(foreseen, setting)
    return list(found.items())


def gate_findings(experiment: Experiment, trials: Sequence[Expectation]) -> list[Finding]:
    """Gates of the file on metrics that no workflow reports which may run it. `trials`: of its search."""
    outlooks = [outlook(experiment, workflow) for workflow in _workflows(experiment)] + [each for each, _ in trials]
    known = [each for each in outlooks if each is not None]
    if not known or len(known) < len(outlooks):
        return []
    possible = frozenset[str]().union(*(each.possible for each in known))
    return [
        Finding(("gates", place), *missing(metric, "the gate's metric", possible, experiment))
        for place, metric in enumerate(Condition.parse(gate).metric for gate in experiment.gates)
        if metric not in possible
    ]


def _workflows(experiment: Experiment) -> Iterator[Workflow]:
    if experiment.command is not None and experiment.model is None:
        yield "command"
        return
    yield "train"
    if experiment.pruning is not None:
        yield "prune"
    if experiment.distillation is not None:
        yield "distill"


def trial_findings(experiment: Experiment, trials: Sequence[Expectation]) -> list[Finding]:
    """Objectives and constraints that some setting does not report; rules on metrics that none does."""
    if not trials:  # of a script
        return []
    found: list[Finding] = []
    for path, metric, what in _demanded(experiment):
        lacking = [(each, setting) for each, setting in trials if metric not in _chosen_by(each)]
        if lacking:
            each, setting = lacking[0]
            rule, remedy = missing(metric, what, _chosen_by(each), experiment)
            found.append(Finding(path, rule + ("" if len(lacking) == len(trials) else _when(setting)), remedy))
    for path, metric, what, early in _rules(experiment):
        possible = frozenset[str]().union(*(each.early if early else _chosen_by(each) for each, _ in trials))
        if metric not in possible:
            rule, remedy = missing(metric, what, possible, experiment)
            found.append(Finding(path, rule + (" while trials are under way" if early else ""), remedy))
    return found


def _chosen_by(each: Outlook) -> frozenset[str]:
    """What a choice may look at: never the test split."""
    return frozenset(name for name in each.possible if not name.startswith("test."))


def _rules(experiment: Experiment) -> Iterator[tuple[Path, str, str, bool]]:
    """(place, metric, what it is, whether running trials are judged by it) of what ends a trial or the search."""
    tuning = experiment.require_tuning()
    if tuning.stop_when is not None:
        for name in tuning.stop_when.metrics():
            yield ("tuning", "stop_when", "target"), name, "the metric of stop_when.target", False
    if tuning.stopper is not None:
        what = f"the metric of the stopper {tuning.stopper.name()}"
        for name in tuning.stopper.metrics():
            yield ("tuning", "stopper", "condition"), name, what, True


def _demanded(experiment: Experiment) -> Iterator[tuple[Path, str, str]]:
    """(place, metric, what it is) of all that every trial must report."""
    tuning = experiment.require_tuning()
    several = not isinstance(tuning.objective, str)
    for place, goal in enumerate(tuning.goals):
        yield ("tuning", "objective", *([place] if several else [])), goal.metric, "the objective's metric"
    for place, condition in enumerate(tuning.conditions):
        yield ("tuning", "constraints", place), condition.metric, "the constraint's metric"


def _when(setting: Setting) -> str:
    telling = {path: value for path, value in setting.items() if path.partition(".")[0] in _TELLING}
    values = [f"{path} = {value!r}" for path, value in telling.items()]
    return f" (when {', '.join(values)})" if values else ""


def missing(metric: str, what: str, possible: Collection[str], experiment: Experiment) -> tuple[str, str]:
    """(rule, remedy) for a metric that is not among the `possible` ones."""
    split, _, rest = metric.partition(".")
    if rest and split in SPLITS and not any(name.startswith(f"{split}.") for name in possible):
        folds = ", or evaluation.cv, e.g. 5" if split == "validation" else ""
        return (
            f"{what} '{metric}' will not be reported: there is no {split} split",
            f"set data.splits.{split}, e.g. 0.2{folds}",
        )
    near = nearest(metric, possible)
    known = f"reported are, {text}" if (text := listed(possible)).startswith("after") else f"reported are {text}"
    return (
        f"{what} '{metric}' will not be reported{_because(metric, experiment)}",
        f"did you mean '{near}'? {known}" if near else known,
    )


def _because(metric: str, experiment: Experiment) -> str:
    split, _, name = metric.partition(".")
    if split == "train" and name not in ("seconds", "epochs", "samples"):
        return ": trainings are judged on the validation and the test split"
    if name == "loss" and experiment.model is not None and experiment.model.framework == "sklearn":
        return ": the loss is what torch models descend, and an estimator has none of its own"
    return ""


def _own(experiment: Experiment, found: Outlook) -> Iterator[Finding]:
    """Metrics of the user's that are called like another one, whose place in the report they would take."""
    called = [metric_name(metric) for metric in experiment.evaluation.metrics]
    often = Counter(called)
    by_task = [set(names(task, found.classes)) | {"loss"} for task in found.tasks]
    for place, name in enumerate(called):
        path: Path = ("evaluation", "metrics", place)
        rule = f"'{experiment.evaluation.metrics[place]}' is reported as '{name}'"
        if name in set.intersection(*by_task):
            yield Finding(path, f"{rule}, and so is a metric that there is without it", "rename the function")
        elif often[name] > 1 and called.index(name) < place:
            yield Finding(path, f"{rule}, and so is another one in this list", "rename one of the functions")
        elif found.folded and name.endswith(DEVIATION) and name.removesuffix(DEVIATION) in set(called).union(*by_task):
            yield Finding(path, f"{rule}, and so is a deviation over the folds of evaluation.cv", "rename the function")


def _monitors(experiment: Experiment, found: Outlook) -> Iterator[Finding]:
    for path, given, training in _trainings(experiment):
        if training.monitored is None:
            continue
        metric = _metric(training.monitored)
        if metric in found.monitored:
            continue
        key = next((key for key in ("monitor", "patience", "keep") if getattr(given, key) is not None), "monitor")
        if metric.startswith("validation.") and not found.judged("validation"):
            yield Finding(
                (*path, key),
                f"{metric} is monitored, but there is no validation split",
                "set data.splits.validation (e.g. 0.2), or leave out patience, monitor and keep: best",
            )
            continue
        near = nearest(metric, found.monitored)
        known = ", ".join(dict.fromkeys(name.partition(".")[2] for name in sorted(found.monitored)))
        told = f"known, after validation. or train.: {known}"
        yield Finding(
            (*path, key),
            f"'{metric}' is monitored, but epochs are judged by no such metric",
            f"did you mean '{near}'? {told}" if near else told,
        )


def _metric(monitor: str) -> str:
    return Goal.parse(monitor).metric if " " in monitor.strip() else monitor


def _trainings(experiment: Experiment) -> Iterator[tuple[Path, TrainingSettings | Recovery, TrainingSettings]]:
    """(place, section, what it comes to) of every training that the file describes."""
    model, pruning, distillation = experiment.require_model(), experiment.pruning, experiment.distillation
    if model.framework == "torch" and experiment.training is not None:
        yield ("training",), experiment.training, experiment.training
    if pruning is not None and pruning.recovery is not None:
        recovery = pruning.recovery
        if (recovery.monitor, recovery.patience, recovery.keep) != (None, None, None):
            yield ("pruning", "recovery"), recovery, recovery.over(experiment.training or TrainingSettings())
    if distillation is None:
        return
    learners: list[tuple[Path, LearnerSettings]] = [
        ((name, place), learner)
        for name in ("teachers", "assistants")
        for place, learner in enumerate(getattr(distillation, name))
    ]
    if distillation.teacher is not None:
        learners.append((("teacher",), distillation.teacher))
    for path, learner in learners:
        if learner.training is not None:
            yield ("distillation", *path, "training"), learner.training, learner.training
