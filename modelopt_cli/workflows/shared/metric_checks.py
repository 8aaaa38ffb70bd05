"""Whether a run will report the metrics that gates, objectives and monitors name; asked before anything is trained.

`validate` refuses what no data could give (experiment/checks/metrics.py). Here the command line's gates are looked at
too, and where the task or the splits are not known yet, the data are read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.experiment.checks.metrics import (
    CORNERS,
    expectations,
    metric_findings,
    missing,
    trial_findings,
)
from modelopt_cli.experiment.document.marks import Finding
from modelopt_cli.experiment.expected_metrics import DataFacts, ExpectedMetrics, Workflow, expect_metrics
from modelopt_cli.training.metrics.names import RANKED
from modelopt_cli.workflows.shared import data_cache, gates

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.workflows.shared.context import Context

_FEW = 200  # samples that an estimator is fitted to, to see what it can say


def check_metrics(experiment: Experiment, context: Context, workflow: Workflow) -> None:
    """Raise UsageError for a gate on a metric that this workflow does not report, and for such a monitor."""
    expected = expect_metrics(experiment, workflow)
    if expected is None:
        return
    asked = {gate.metric for gate in gates.conditions(experiment, context)}
    _check_gates(experiment, context, [expected])
    monitors = metric_findings(experiment)
    if asked <= expected.certain and len(expected.tasks) == 1 and not expected.perhaps:
        experiment.refuse(monitors)
        return
    facts = learn(experiment, asked)
    experiment.refuse(metric_findings(experiment, facts))
    _check_gates(experiment, context, [expected.knowing(facts)])


def check_trials(experiment: Experiment, context: Context, space: Space) -> None:
    """The same for a search: what its trials are compared by must be there in every one of them."""
    trials = expectations(experiment, space)
    if not trials:
        return
    tuning = experiment.require_tuning()
    asked = {gate.metric for gate in gates.conditions(experiment, context)} | set(tuning.metrics)
    _check_gates(experiment, context, [each for each, _ in trials])
    if any(len(each.tasks) > 1 or each.perhaps or not asked <= each.certain for each, _ in trials):
        trials = [
            (each.knowing(learn(experiment.attempt(setting), asked & each.possible)), setting)
            for each, setting in trials
        ]
    experiment.refuse(trial_findings(experiment, trials))
    _check_gates(experiment, context, [each for each, _ in trials])


def check_samples(experiment: Experiment, space: Space) -> str | None:
    """Raise UsageError where what is searched of the data changes what results are measured on.

    Options that change inputs alone may do more to these very data (`missing: drop` takes rows out). Gives the digest
    that every trial must agree with; None where nothing of the data is searched.
    """
    if not any(path.partition(".")[0] == "data" for path in space.paths):
        return None
    first, digest = dict[str, Any](), None
    for setting in islice(space.corners(), CORNERS):
        chosen = {path: value for path, value in setting.items() if path.partition(".")[0] == "data"}
        own = data_cache.measured_on(experiment.with_values(chosen))
        if digest is not None and own != digest:
            raise UsageError(
                f"{experiment.origin}: {_named(chosen)} gives other samples, targets or splits than {_named(first)}, "
                "so results under the two cannot be compared; leave out of tuning.space what changes them"
            )
        first, digest = (chosen, own) if digest is None else (first, digest)
    return digest


def _named(setting: Mapping[str, object]) -> str:
    return ", ".join(f"{path} = {value!r}" for path, value in setting.items())


def _check_gates(experiment: Experiment, context: Context, runs: Sequence[ExpectedMetrics]) -> None:
    """Gates, of the file and of the command line, on a metric that none of the runs reports."""
    possible = frozenset[str]().union(*(each.possible for each in runs))
    lacking = [gate for gate in gates.conditions(experiment, context) if gate.metric not in possible]
    for gate in lacking:
        rule, remedy = missing(gate.metric, "the gate's metric", possible, experiment)
        if gate in context.gates:
            raise UsageError(f"--gate '{gate}': {rule}; {remedy}")
        index = [str(each) for each in gates.conditions(experiment, replace(context, gates=()))].index(str(gate))
        experiment.refuse([Finding(("gates", index), rule, remedy)])


def learn(experiment: Experiment, asked: Collection[str]) -> DataFacts:
    """What the data say. An estimator is tried where one of the metrics `asked` for needs more than its labels."""
    raw = data_cache.raw_data(experiment)
    if experiment.evaluation.cv is not None:
        splits = {"validation"} | ({"test"} if len(data_cache.development_indices(experiment)) < len(raw) else set())
    else:
        parts = data_cache.split_data(experiment)
        splits = {name for name in ("validation", "test") if len(getattr(parts, name))}
    ranked = any(name.partition(".")[2].removesuffix("_std") in RANKED for name in asked)
    lacking: frozenset[str] = frozenset()
    if ranked and experiment.require_model().framework == "sklearn" and raw.task != "regression":
        lacking = _lacking(experiment)
    classes = len(raw.label_names) or int(raw.targets.max()) + 1 if raw.task == "classification" else 0
    return DataFacts(raw.task, classes, frozenset(splits), lacking)


def _lacking(experiment: Experiment) -> frozenset[str]:
    """Metrics that the estimator cannot have: some say nothing but labels, and some tell only when they are fitted."""
    from modelopt_cli.training import estimators

    folded = experiment.evaluation.cv is not None
    prepared = data_cache.prepared_fold(experiment, 0) if folded else data_cache.prepared_data(experiment)
    estimator = experiment.require_model().build(prepared.shapes, 0)
    if hasattr(estimator, "predict_proba"):
        return frozenset()
    few = replace(
        prepared.train,
        inputs=prepared.train.inputs[:_FEW],
        targets=prepared.train.targets[:_FEW],
        weights=None,
        indices=prepared.train.indices[:_FEW],
    )
    try:
        estimators.fit(estimator, few)
    except Exception:  # it says nothing of itself on these few samples
        return frozenset()
    if hasattr(estimator, "predict_proba"):
        return frozenset()
    return frozenset({"log_loss"}) if hasattr(estimator, "decision_function") else RANKED
