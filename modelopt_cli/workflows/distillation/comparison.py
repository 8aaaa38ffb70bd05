"""The models of a distillation side by side: judged on every split, priced, and shown in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import RefusedError
from modelopt_cli.experiment.expected_metrics import GAP
from modelopt_cli.results.report import Table
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER
from modelopt_cli.workflows.distillation.jobs import ALONE, STUDENT
from modelopt_cli.workflows.shared import costs, data_cache
from modelopt_cli.workflows.shared.changes import changes

if TYPE_CHECKING:
    from modelopt_cli.core.warning_log import WarningLog
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.training.metrics.answers import Answers
    from modelopt_cli.workflows.distillation.jobs import TrainingJob
    from modelopt_cli.workflows.distillation.trained_model import TrainedModel, Turn
    from modelopt_cli.workflows.shared.latencies import Latencies

PRINCIPAL = {"classification": "accuracy", "multilabel": "accuracy", "regression": "rmse"}
"""The metric that models of a task are compared by."""
_SPLITS = ("validation", "test")


class Comparison:
    """`trained`: whoever is finished, by name, in the order of training; may still grow."""

    def __init__(
        self, experiment: Experiment, prepared: Prepared, trained: Mapping[str, TrainedModel], log: WarningLog
    ) -> None:
        """`log`: where warnings of judging go."""
        self._experiment, self._prepared, self._trained, self._log = experiment, prepared, trained, log
        self._judged: dict[tuple[str, Turn, str], dict[str, float]] = {}
        self.answers: dict[str, Answers] = {}  # split -> those of the student that is kept
        self._timing = costs.timing(experiment)
        self._sizes: list[dict[str, Any]] = []  # records of the table of costs
        self._times: list[dict[str, Any]] = []
        self._latencies: Latencies | None = None

    def judge(self, model: TrainedModel, turn: Turn, split: str) -> dict[str, float]:
        """Every metric of a model at a turn on a split; read once, then remembered. Empty without the split."""
        from modelopt_cli.core.device import choose
        from modelopt_cli.training.evaluation import evaluate

        if getattr(self._prepared, split) is None:
            return {}
        key = (model.name, turn, split)
        if key not in self._judged:
            device, own = choose(self._experiment.device), self._experiment.evaluation.own
            with self._log.recording(), model.standing_at(turn):
                kept = partial(self.answers.__setitem__, split)
                keep = kept if model.name == STUDENT and turn == model.kept else None
                self._judged[key] = evaluate(model.module(self._prepared), self._prepared, split, device, own, keep)
        return self._judged[key]

    def forget(self, name: str) -> None:
        """The model of that name has been trained on, so it is judged anew."""
        self._judged = {key: metrics for key, metrics in self._judged.items() if key[0] != name}

    def of_student(self, student: TrainedModel, split: str) -> dict[str, float]:
        """Every metric of the student, what it lost against its (first) teacher, and how much of the gap it closed.

        Empty without the split.
        """
        metrics = self.judge(student, student.kept, split)
        return {**metrics, **self._changes(metrics, split), **self._gaps(student, split)} if metrics else {}

    def _changes(self, metrics: Mapping[str, float], split: str) -> dict[str, float]:
        teacher = self._torch_teacher()
        return {} if teacher is None else changes(metrics, self.judge(teacher, teacher.kept, split))

    def _gaps(self, student: TrainedModel, split: str) -> dict[str, float]:
        compared = [one for name, one in self._trained.items() if name == ALONE or name.startswith("teacher")]
        rows = [{"learner": one.name, "kept": True, **self.judge(one, one.kept, split)} for one in (*compared, student)]
        return gaps(rows, PRINCIPAL[self._prepared.task])

    def costs(self, student: TrainedModel, *, timed: bool = True) -> dict[str, float]:
        """What the student costs, as metrics; measured once, `timed` in turns with its (first) teacher."""
        return costs.metrics(self._measured(student, timed=timed), ratios=self._torch_teacher() is not None)

    def _measured(self, student: TrainedModel, *, timed: bool) -> list[dict[str, Any]]:
        from modelopt_cli.models.files import checkpoints
        from modelopt_cli.models.measure import example

        teacher = self._torch_teacher()
        pair = [student.checkpoint if teacher is None else teacher.checkpoint, student.checkpoint]
        before, after = (one.model.to("cpu") for one in pair)
        inputs = example(self._prepared.shapes, max(self._timing.batch_sizes))
        if not self._sizes:
            files = (checkpoints.file_sizes(pair[0])[0], checkpoints.file_sizes(pair[1])[0])
            self._sizes = costs.sizes(before, after, inputs, files)
        if timed and self._latencies is None:
            names = (STUDENT, STUDENT) if teacher is None else (teacher.name, STUDENT)
            self._times, self._latencies = costs.times(before, after, inputs, self._timing, names)
        return [*self._sizes, *self._times]

    @property
    def noise(self) -> list[str]:
        """What made the timings unsure, or could not be timed."""
        return [] if self._latencies is None else list(self._latencies.warnings)

    @property
    def details(self) -> Mapping[str, object]:
        """How it was timed, where it was."""
        return {} if self._latencies is None else self._latencies.told

    def _torch_teacher(self) -> TrainedModel | None:
        """The first teacher, where it is a torch module."""
        teachers = [one for name, one in self._trained.items() if name.startswith("teacher")]
        return teachers[0] if teachers and teachers[0].checkpoint.architecture.framework == "torch" else None

    def remarks(self, jobs: Sequence[TrainingJob]) -> list[str]:
        """What the figures of teacher and student do not show; the student is finished."""
        student = self._trained[STUDENT]
        remarks = [
            _seen_before(self._trained[job.name].checkpoint, self._experiment, job.name)
            for job in jobs
            if job.role == "given" and job.name in self._trained
        ]
        if ALONE not in self._trained:
            remarks.append(
                "the student was not trained alone (baseline: false), so nothing tells what the teacher was worth; "
                f"it would take about {max(student.seconds, 0.1):.1f} s"
            )
        elif any(job.settings is not None for job in jobs):
            judged = [split for split in _SPLITS if (STUDENT, student.kept, split) in self._judged]
            remarks += [
                f"no gap to close on the {split} split: the teacher is no better there than the student alone"
                for split in judged
                if f"{split}.{GAP}" not in self._gaps(student, split)
            ]
        return [remark for remark in remarks if remark]

    def tables(self, student: TrainedModel) -> dict[str, Table]:
        """learners: who was judged, at which epoch (one row for each turn); of teacher and student costs, latency."""
        models = [*self._trained.values()] if STUDENT in self._trained else [student]
        rows = [self._row(model, turn) for model in models for turn in model.turns]
        if ALONE not in self._trained:  # switched off: no metrics, and the seconds that it would have taken
            alone = {"learner": ALONE, "turn": "not trained", "kept": True, "predicted seconds": student.seconds}
            rows.insert(-len(student.turns), alone)
        tables = {"learners": Table.from_records(rows), "costs": self._costs_table(student)}
        return tables if self._latencies is None else {**tables, "latency": self._latencies.table()}

    def _row(self, model: TrainedModel, turn: Turn) -> dict[str, Any]:
        """Who, after which epoch, whether these are the weights that are kept, and every metric."""
        return {
            "learner": model.name,
            "epoch": model.epochs.get(turn),
            "turn": turn,
            "kept": turn == model.kept,
            **{name: value for split in _SPLITS for name, value in self.judge(model, turn, split).items()},
            "model.parameters": model.parameters,
        }

    def _costs_table(self, student: TrainedModel) -> Table:
        """A row for each cost: what, teacher, student, times less; the student's alone where no teacher compares."""
        rows = self._measured(student, timed=True)
        names = {"before": "teacher", "after": "student", "times less": "times less"}
        shown = names if self._torch_teacher() is not None else {"after": "student"}
        return Table.from_records(
            [{"what": row["what"], **{new: row[old] for old, new in shown.items()}} for row in rows]
        )


def gaps(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """`validation.gap_closed` and `test.gap_closed` of the weights that are kept, from rows of `learners`.

    (student - student alone) / (teacher - student alone), of a metric; of several teachers the best one's. Nothing
    where there is no teacher, no student alone, or nothing between them.
    """
    kept = {row["learner"]: row for row in rows if row["kept"]}
    closed = {}
    for split in _SPLITS:
        name = f"{split}.{metric}"
        values = {learner: row[name] for learner, row in kept.items() if row.get(name) is not None}
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        teachers = [sign * value for learner, value in values.items() if learner.startswith("teacher")]
        if teachers and ALONE in values and STUDENT in values:
            base, student, best = sign * values[ALONE], sign * values[STUDENT], max(teachers)
            if best > base:
                closed[f"{split}.{GAP}"] = (student - base) / (best - base)
    return closed


def _seen_before(teacher: Checkpoint, experiment: Experiment, name: str) -> str:
    """A warning where the teacher was trained on samples that the student is judged on; empty where not, or unknown.

    A teacher that knows the answers looks better than it is, and so does who learns from it on other samples.
    """
    import numpy as np

    from modelopt_cli.data.splits import split
    from modelopt_cli.models.files import checkpoints

    if not teacher.data:
        return ""
    try:
        source: Any = checkpoints.agreed("data", teacher.data_section(), name, experiment.consent)
    except RefusedError:
        return ""  # not the experiment's data, and not read
    free = {"splits": None, "augment": (), "standardize": None}
    if source.model_copy(update=free) != data_cache.source_of(experiment).model_copy(update=free):
        return ""
    raw = data_cache.raw_data(experiment)
    theirs = split(raw, source.splits, data_cache.data_seed(experiment))
    mine = data_cache.split_data(experiment)
    counts = {part: len(np.intersect1d(theirs.train, getattr(mine, part))) for part in _SPLITS}
    overlaps = [f"{count} of {len(getattr(mine, part))} {part}" for part, count in counts.items() if count]
    if not overlaps:
        return ""
    return (
        f"the {name} was trained with other splits: it has seen {' and '.join(overlaps)} samples of this run, so its "
        f"figures there are no measurement; use the same data.splits, seed included ({source.splits.seed})"
    )
