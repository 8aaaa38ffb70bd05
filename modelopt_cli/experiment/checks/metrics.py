"""Whether the metrics that a file names will be reported: by objectives, constraints, gates, rules and monitors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from modelopt_cli.core.conditions import Condition, Goal
from modelopt_cli.distillation.settings import LearnerSettings
from modelopt_cli.experiment.document.marks import Finding, Path, Rejected
from modelopt_cli.experiment.expected_metrics import (
    DEVIATION,
    SPLITS,
    DataFacts,
    ExpectedMetrics,
    Workflow,
    expect_metrics,
    listed,
    nearest,
)
from modelopt_cli.experiment.sections import Sections
from modelopt_cli.pruning.settings import Recovery
from modelopt_cli.training.metrics.names import metric_name, names
from modelopt_cli.training.settings import TrainingSettings
from modelopt_cli.tuning.space.space import Space

Setting = Mapping[str, Any]
Expectation = tuple[ExpectedMetrics, Setting]
"""What is known of a trial's metrics, and one of the settings of which it is true."""

CORNERS = 2000
"""Settings that are tried on the file at most."""
_TELLING = ("model", "pruning", "distillation", "quantization")  # sections whose choices change what there is to report


def metric_findings(experiment: Sections, facts: DataFacts | None = None) -> list[Finding]:
    """What holds whatever the workflow: the user's own metrics, and what trainings are monitored by.

    `facts`: the data have been read.
    """
    expected = expect_metrics(experiment, "train", facts=facts)
    return [] if expected is None else [*_own(experiment, expected), *_monitors(experiment, expected)]


def expectations(experiment: Sections, space: Space) -> list[Expectation]:
    """What is known of the trials' metrics, each kind of trial once; empty for a script."""
    workflow, kinds = experiment.require_tuning().workflow, dict[ExpectedMetrics, Setting]()
    for setting in islice(space.corners(), CORNERS):
        try:
            trial = experiment.changed(setting)
        except Rejected:  # corner_findings says so; of an experiment that was changed in Python, the trial itself does
            continue
        expected = expect_metrics(trial, workflow, searched=True)
        if expected is not None:
            kinds.setdefault(expected, setting)
    return list(kinds.items())


def gate_findings(experiment: Sections, trials: Sequence[Expectation]) -> list[Finding]:
    """Gates of the file on metrics that no workflow reports which may run it. `trials`: of its search."""
    runs = [expect_metrics(experiment, workflow) for workflow in _workflows(experiment)]
    foreseeable = [expected for expected in (*runs, *(each for each, _ in trials)) if expected is not None]
    if not foreseeable or None in runs:
        return []
    possible = frozenset[str]().union(*(expected.possible for expected in foreseeable))
    return [
        Finding(("gates", index), *missing(metric, "the gate's metric", possible, experiment))
        for index, metric in enumerate(Condition.parse(gate).metric for gate in experiment.gates)
        if metric not in possible
    ]


def _workflows(experiment: Sections) -> Iterator[Workflow]:
    if experiment.command is not None and experiment.model is None:
        yield "command"
        return
    yield "train"
    if experiment.pruning is not None:
        yield "prune"
    if experiment.distillation is not None:
        yield "distill"
    if experiment.pipeline or experiment.pruning is not None or experiment.quantization is not None:
        yield "compress"


def trial_findings(experiment: Sections, trials: Sequence[Expectation]) -> list[Finding]:
    """Objectives and constraints that some setting does not report; rules on metrics that none does."""
    if not trials:  # of a script
        return []
    findings: list[Finding] = []
    for path, metric, what in _demanded(experiment):
        lacking = [(each, setting) for each, setting in trials if metric not in _chosen_by(each)]
        if lacking:
            each, setting = lacking[0]
            rule, remedy = missing(metric, what, _chosen_by(each), experiment)
            findings.append(Finding(path, rule + ("" if len(lacking) == len(trials) else _when(setting)), remedy))
    for path, metric, what, early in _rules(experiment):
        possible = frozenset[str]().union(*(each.early if early else _chosen_by(each) for each, _ in trials))
        if metric not in possible:
            rule, remedy = missing(metric, what, possible, experiment)
            findings.append(Finding(path, rule + (" while trials are under way" if early else ""), remedy))
    return findings


def _chosen_by(each: ExpectedMetrics) -> frozenset[str]:
    """What a choice may look at: never the test split."""
    return frozenset(name for name in each.possible if not name.startswith("test."))


def _rules(experiment: Sections) -> Iterator[tuple[Path, str, str, bool]]:
    """(path, metric, what it is, whether running trials are judged by it) of what ends a trial or the search."""
    tuning = experiment.require_tuning()
    if tuning.stop_when is not None:
        for name in tuning.stop_when.metrics():
            yield ("tuning", "stop_when", "target"), name, "the metric of stop_when.target", False
    stopper = tuning.named_stopper
    if stopper is not None:
        what = f"the metric of the stopper {stopper.name()}"
        for name in stopper.metrics():
            yield ("tuning", "stopper", "condition"), name, what, True


def _demanded(experiment: Sections) -> Iterator[tuple[Path, str, str]]:
    """(path, metric, what it is) of all that every trial must report."""
    tuning = experiment.require_tuning()
    several = not isinstance(tuning.objective, str)
    for index, goal in enumerate(tuning.goals):
        yield ("tuning", "objective", *([index] if several else [])), goal.metric, "the objective's metric"
    for index, condition in enumerate(tuning.conditions):
        yield ("tuning", "constraints", index), condition.metric, "the constraint's metric"


def _when(setting: Setting) -> str:
    telling = {path: value for path, value in setting.items() if path.partition(".")[0] in _TELLING}
    values = [f"{path} = {value!r}" for path, value in telling.items()]
    return f" (when {', '.join(values)})" if values else ""


def missing(metric: str, what: str, possible: Collection[str], experiment: Sections) -> tuple[str, str]:
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


def _because(metric: str, experiment: Sections) -> str:
    split, _, name = metric.partition(".")
    if split == "train" and name not in ("seconds", "epochs", "samples"):
        return ": trainings are judged on the validation and the test split"
    if name == "loss" and experiment.model is not None and experiment.model.framework == "sklearn":
        return ": the loss is what torch models descend, and an estimator has none of its own"
    return ""


def _own(experiment: Sections, expected: ExpectedMetrics) -> Iterator[Finding]:
    """Metrics of the user's that are called like another one, whose values in the report theirs would replace."""
    called = [metric_name(metric) for metric in experiment.evaluation.metrics]
    often = Counter(called)
    by_task = [set(names(task, expected.classes)) | {"loss"} for task in expected.tasks]
    for index, name in enumerate(called):
        path: Path = ("evaluation", "metrics", index)
        rule = f"'{experiment.evaluation.metrics[index]}' is reported as '{name}'"
        if name in set.intersection(*by_task):
            yield Finding(path, f"{rule}, and so is a metric that there is without it", "rename the function")
        elif often[name] > 1 and called.index(name) < index:
            yield Finding(path, f"{rule}, and so is another one in this list", "rename one of the functions")
        elif expected.folded and name.endswith(DEVIATION) and name.removesuffix(DEVIATION) in {*called}.union(*by_task):
            yield Finding(path, f"{rule}, and so is a deviation over the folds of evaluation.cv", "rename the function")


def _monitors(experiment: Sections, expected: ExpectedMetrics) -> Iterator[Finding]:
    for path, given, training in _trainings(experiment):
        if training.monitored is None:
            continue
        metric = _metric(training.monitored)
        if metric in expected.monitored:
            continue
        key = next((key for key in ("monitor", "patience", "keep") if getattr(given, key) is not None), "monitor")
        if metric.startswith("validation.") and not expected.judged("validation"):
            yield Finding(
                (*path, key),
                f"{metric} is monitored, but there is no validation split",
                "set data.splits.validation (e.g. 0.2), or leave out patience, monitor and keep: best",
            )
            continue
        near = nearest(metric, expected.monitored)
        known = ", ".join(dict.fromkeys(name.partition(".")[2] for name in sorted(expected.monitored)))
        reported = f"known, after validation. or train.: {known}"
        yield Finding(
            (*path, key),
            f"'{metric}' is monitored, but epochs are judged by no such metric",
            f"did you mean '{near}'? {reported}" if near else reported,
        )


def _metric(monitor: str) -> str:
    return Goal.parse(monitor).metric if " " in monitor.strip() else monitor


def _trainings(experiment: Sections) -> Iterator[tuple[Path, TrainingSettings | Recovery, TrainingSettings]]:
    """(path, section, what it comes to) of every training that the file describes."""
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
        ((name, index), learner)
        for name in ("teachers", "assistants")
        for index, learner in enumerate(getattr(distillation, name))
    ]
    if distillation.teacher is not None:
        learners.append((("teacher",), distillation.teacher))
    for path, learner in learners:
        if learner.training is not None:
            yield ("distillation", *path, "training"), learner.training, learner.training
