"""How every report of a workflow is made: its clock, its warnings and gates, its file in the run directory.

A workflow makes a Reporting when it begins, works within its recording of warnings, and hands it what came of it. No
other module of workflows/ makes a Report, so that none can forget what a report owes its reader.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeGuard

from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.results.report import GateResult, Kind, Report, Table
from modelopt_cli.workflows.shared import gates
from modelopt_cli.workflows.shared.context import Context

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint

DATA = "data_fingerprint"
"""The detail of a report that is a hash of its data's content, so that it shows when runs were of other data."""
POSITIVE = "positive_class"
"""The detail of a report that names the class which its binary metrics are about."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to; empty for one that was stopped before there was anything to judge.

    `warnings`: of the run itself; what there is to say about its data is added when the report is made. `beside`:
    tables that would make report.json large; they are files of their own beside it, and the report finds them there.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    model: Checkpoint | None = None
    beside: Mapping[str, Table] = field(default_factory=dict)


class Reporting:
    """Made when the work begins; `report` ends it.

    `log`: for warnings of Python's that no run of the workflow keeps for itself, such as those of loading a model; the
    work is done within `log.recording()`.
    """

    def __init__(
        self, experiment: Experiment | None, context: Context | None = None, *, name: str = "", seed: int = 0
    ) -> None:
        """Without an experiment, as where a file is looked at, the report has this `name` and `seed`."""
        self._experiment, self._context = experiment, context or Context()
        self._name, self._seed = (name, seed) if experiment is None else (experiment.name, experiment.seed)
        self.log = WarningLog()
        self._started, self._clock = datetime.now(UTC).astimezone(), time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self._clock

    def report(
        self,
        kind: Kind,
        workflow: str,
        outcome: Outcome,
        *,
        interrupted: bool = False,
        artefacts: Mapping[str, str] | None = None,
        best: Mapping[str, object] | None = None,
        plan: Mapping[str, object] | None = None,
        judged: Sequence[GateResult] = (),
    ) -> Report:
        """The report, written into the run directory where there is one. Gates are judged unless `interrupted`.

        `judged`: gates that the workflow has judged itself.
        """
        experiment, context = self._experiment, self._context
        chosen, unchosen = _about_positive(experiment, outcome.metrics)
        described, data = _about_data(experiment)
        demanded = [] if interrupted else gates.conditions(experiment, context)
        notes = [*_notes(experiment), *unchosen, *outcome.warnings, *_consent(outcome.model), *self.log.texts]
        report = Report(
            kind=kind,
            workflow=workflow,
            name=self._name,
            status="interrupted" if interrupted else "completed",
            seed=self._seed,
            started=self._started.isoformat(timespec="seconds"),
            seconds=self.seconds,
            metrics=dict(outcome.metrics),
            best=None if best is None else dict(best),
            tables={**outcome.tables, **described},
            gates=[*gates.judge(demanded, outcome.metrics), *judged],
            plan=dict(plan or {}),
            details={**outcome.details, **chosen, **data},
            artefacts=dict(artefacts or {}),
            warnings=list(dict.fromkeys(notes)),
        )
        if context.directory is not None:
            for name, table in outcome.beside.items():
                context.directory.write_table(name, table)
            report = report.with_beside(outcome.beside)
            report = context.directory.write_report(report, page=experiment is None or experiment.report)
        return report.with_model(outcome.model).with_beside(outcome.beside)


def planned(
    workflow: str, experiment: Experiment, plan: Mapping[str, object], details: Mapping[str, object] | None = None
) -> Report:
    """The report of a dry run: what was estimated, and what there is to say about the data."""
    return Report(
        kind="plan",
        workflow=workflow,
        name=experiment.name,
        seed=experiment.seed,
        plan=dict(plan),
        details=dict(details or {}),
        warnings=_notes(experiment),
    )


def provisional(
    kind: Kind,
    workflow: str,
    outcome: Outcome,
    *,
    name: str,
    seed: int,
    best: Mapping[str, object] | None,
    artefacts: Mapping[str, str],
    failed: Report | None,
) -> Report:
    """The report of a run that has not come to its end, as it stands; `failed`: the one that says why it failed."""
    return Report(
        kind=kind,
        workflow=workflow,
        name=name,
        status="interrupted" if failed is None else failed.status,
        reason="" if failed is None else failed.reason,
        started="" if failed is None else failed.started,
        seconds=0.0 if failed is None else failed.seconds,
        seed=seed,
        metrics=dict(outcome.metrics),
        best=None if best is None else dict(best),
        tables=dict(outcome.tables),
        details=dict(outcome.details),
        artefacts=dict(artefacts),
    ).with_beside(outcome.beside)


def positive_class(task: Task, labels: Sequence[str], metrics: Collection[str]) -> dict[str, str]:
    """The detail of a report that names the positive class, where a metric is about it."""
    from modelopt_cli.data.positive import named_positive

    name = named_positive(task, labels, metrics)
    return {} if name is None else {POSITIVE: name}


def _about_positive(experiment: Experiment | None, metrics: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """(the detail that names the positive class, a warning where nobody chose it)"""
    if not _has_data(experiment) or not metrics:
        return {}, []
    from modelopt_cli.data.positive import left_to_the_alphabet
    from modelopt_cli.workflows.shared.data_cache import raw_data

    raw = raw_data(experiment)
    detail = positive_class(raw.task, raw.label_names, metrics)
    warning = left_to_the_alphabet(raw.label_names, experiment.require_data().positive) if detail else ""
    return detail, [warning] if warning else []


def _about_data(experiment: Experiment | None) -> tuple[Mapping[str, Table], Mapping[str, object]]:
    """(tables; details: what the data are, and a hash of their content) of the data, which the run has read."""
    if not _has_data(experiment):
        return {}, {}
    from modelopt_cli.workflows.shared.data_cache import raw_data
    from modelopt_cli.workflows.shared.data_tables import data_tables

    tables, described = data_tables(experiment)
    content = raw_data(experiment).fingerprint
    return tables, {"data": described, **({DATA: content} if content else {})}


def _has_data(experiment: Experiment | None) -> TypeGuard[Experiment]:
    """Whether the experiment has data of its own; a script reads its own."""
    return experiment is not None and experiment.data is not None and experiment.model is not None


def _consent(model: Checkpoint | None) -> list[str]:
    """Whether whoever reads the saved model will be asked for consent to what it is made of."""
    if model is None or model.architecture.framework != "sklearn":
        return []
    from modelopt_cli.models.files.estimator_files import told_at_saving

    return told_at_saving(model.model)


def _notes(experiment: Experiment | None) -> list[str]:
    """What whoever reads the report should know about the data, and of settings that come to nothing."""
    if not _has_data(experiment):
        return []
    from modelopt_cli.workflows.shared.data_cache import data_notes

    return [*data_notes(experiment), *_remarks(experiment)]


def _remarks(experiment: Experiment) -> list[str]:
    """Of learning rate schedules that are longer than the training they belong to."""
    training, pruning = experiment.training, experiment.pruning
    if training is None:
        return []
    recovery = None if pruning is None else pruning.recovery_over(training)
    return [text for each in (training, recovery) if each is not None for text in each.schedule.remarks(each.epochs)]
