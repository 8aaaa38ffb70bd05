"""One distillation as a run: teachers and what else is wanted first, then the student, then all are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.experiment.expected_metrics import GAP
from modelopt_cli.tuning.objective import StepReport
from modelopt_cli.workflows.distillation import tables as distill_tables
from modelopt_cli.workflows.distillation.jobs import ALONE, STUDENT
from modelopt_cli.workflows.distillation.pipeline import PRINCIPAL, DistillCourse
from modelopt_cli.workflows.distillation.teachers import seen_before
from modelopt_cli.workflows.distillation.trained_model import TrainedModel
from modelopt_cli.workflows.runs.base import RestorableRun
from modelopt_cli.workflows.shared import costs

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.report import Table
    from modelopt_cli.results.run_directory import RunDirectory


SPLITS = ("validation", "test")


class DistillRun(RestorableRun):
    """Trains what the distillation section says; the model is the student."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        seed: int,
        baseline: bool | None = None,
        monitor: str | Sequence[str] | None = None,
        folder: Path,
        state: Mapping[str, Any] | None = None,
        costed: bool = True,
    ) -> None:
        """`baseline`: train the student alone too; None: as the section says. `folder`: where stage files lie.

        `costed`: metrics hold what the student costs, which takes seconds to measure.
        """
        self._experiment, self._costed = experiment, costed
        self._noise: list[str] = []
        self._cost_rows: list[dict[str, Any]] | None = None
        wanted = experiment.require_distillation().baseline if baseline is None else baseline
        self._log = WarningLog(() if state is None else state.get("warnings", ()))
        with self._log.recording():
            self.course = DistillCourse(
                experiment, seed=seed, baseline=wanted, monitor=monitor, folder=folder, state=state
            )
        self._judged: dict[tuple[str, str, str], dict[str, float]] = {}
        self._note()

    def _note(self) -> None:
        self.step, self.total, self.doing = self.course.step, self.course.total, self.course.doing

    def advance(self, until: int) -> list[StepReport]:
        """Train up to step `until`."""
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            with self._log.recording():
                found = self.course.next()
            self._note()
            reports.append((self.step, found))
        return reports

    @property
    def warnings(self) -> list[str]:
        """What whoever was trained told, and what the figures of teacher and student do not show."""
        learned = self.course.learned
        told = [f"{name}: {text}" for name, one in learned.items() for text in one.checkpoint.warnings]
        return list(dict.fromkeys([*self._log.texts, *told, *(self._remarks() if STUDENT in learned else ())]))

    def _remarks(self) -> list[str]:
        learned = self.course.learned
        remarks = [
            seen_before(learned[member.name].checkpoint, self._experiment, member.name)
            for member in self.course.members
            if member.role == "given" and member.name in learned
        ]
        if ALONE not in learned:
            remarks.append(
                "the student was not trained alone (baseline: false), so nothing tells what the teacher was worth; "
                f"it would take about {max(self.student.seconds, 0.1):.1f} s"
            )
        elif any(member.settings is not None for member in self.course.members):
            judged = [split for split in SPLITS if (STUDENT, self.student.kept, split) in self._judged]
            remarks += [
                f"no gap to close on the {split} split: the teacher is no better there than the student alone"
                for split in judged
                if f"{split}.{GAP}" not in self._gaps(split)
            ]
        return [remark for remark in remarks if remark]

    @property
    def student(self) -> TrainedModel:
        """The student: finished, or as it stands when the run is stopped early."""
        found = self.course.learned.get(STUDENT)
        return found if found is not None else self.course.unfinished()

    def judge(self, learned: TrainedModel, turn: str, split: str) -> dict[str, float]:
        """Every metric of a model at a turn on a split; read once, then remembered."""
        from modelopt_cli.core.device import choose
        from modelopt_cli.training.evaluation import evaluate

        key = (learned.name, turn, split)
        if key not in self._judged:
            prepared = self.course.prepared
            with self._log.recording(), learned.standing_at(turn):  # type: ignore[arg-type]
                self._judged[key] = evaluate(
                    learned.module(prepared),
                    prepared,
                    split,
                    choose(self._experiment.device),
                    self._experiment.evaluation.own,
                )
        return self._judged[key]

    def _metrics_on(self, split: str) -> dict[str, float]:
        """Every metric of the student, and how much of the gap to its teacher it closed; empty without the split."""
        found = self._judged_on(self.student, split)
        return {**found, **self._gaps(split)} if found else {}

    def _gaps(self, split: str) -> dict[str, float]:
        compared = [one for name, one in self.course.learned.items() if name == ALONE or name.startswith("teacher")]
        rows = [
            {"learner": one.name, "kept": True, **self.judge(one, one.kept, split)} for one in (*compared, self.student)
        ]
        return distill_tables.gaps(rows, PRINCIPAL[self.course.prepared.task])

    def metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, the student's size, the seconds that its training took."""
        from modelopt_cli.models.summary import summarise

        student = self.student
        return {
            **self.full_metrics(),
            **summarise(student.checkpoint.model),
            "train.seconds": student.seconds,
            "train.epochs": float(student.epochs.get(student.kept, 0)),
            **(costs.metrics(self._measured()) if self._costed else {}),
        }

    def costs(self, judged: Mapping[str, float]) -> dict[str, float]:
        """What the student costs, as metrics; measured once, in turns with its (first) teacher."""
        return costs.metrics(self._measured())

    def _measured(self) -> list[dict[str, Any]]:
        from modelopt_cli.models.files import checkpoints
        from modelopt_cli.models.measure import example

        if self._cost_rows is None:
            student = self.student.checkpoint
            pair = [self._comparable() or student, student]
            before, after = (one.model.to("cpu") for one in pair)
            files = (checkpoints.file_sizes(pair[0])[0], checkpoints.file_sizes(pair[1])[0])
            inputs = example(self.course.prepared.shapes, max(costs.BATCH_SIZES))
            self._cost_rows, self._noise = costs.compare(before, after, inputs, files)
        return self._cost_rows

    def _comparable(self) -> Checkpoint | None:
        """The first teacher, where it is a torch module."""
        found = [one.checkpoint for name, one in self.course.learned.items() if name.startswith("teacher")]
        return found[0] if found and found[0].architecture.framework == "torch" else None

    def full_metrics(self) -> Mapping[str, float]:
        """See the base class."""
        return self._metrics_on("validation")

    def test_metrics(self) -> Mapping[str, float]:
        """See the base class."""
        return self._metrics_on("test")

    @property
    def noise(self) -> list[str]:
        """See the base class."""
        return self._noise

    def tables(self) -> dict[str, Table]:
        """learners: who was judged, at which epoch; curve: every epoch of all; costs: of teacher and student."""
        prepared = self.course.prepared
        splits = [split for split in SPLITS if getattr(prepared, split) is not None]
        learned = [*self.course.learned.values()] if STUDENT in self.course.learned else [self.student]
        rows = [
            distill_tables.learner(one, turn, {split: self.judge(one, turn, split) for split in splits})
            for one in learned
            for turn in one.turns
        ]
        if ALONE not in self.course.learned:
            rows.insert(-len(self.student.turns), distill_tables.not_trained(self.student))
        return {
            "learners": distill_tables.learners(rows),
            "curve": distill_tables.curve(self.course.curve),
            "costs": distill_tables.costs(self._measured(), compared=self._comparable() is not None),
        }

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The student with all that using it needs; projectors and the like are left behind."""
        found = self.student.checkpoint
        extra = {name: value for name, value in found.extra.items() if name != "loss"}  # all are judged by the task's
        return replace(found, metrics=dict(metrics), extra=extra)

    def keep_teachers(self, directory: RunDirectory) -> dict[str, str]:
        """Write the teachers that were trained here, so that the next run need not train them again: name -> path."""
        from modelopt_cli.models.files import checkpoints

        self.course.train_teachers()
        found = {}
        for member in self.course.members:
            if member.role == "teacher":
                path = directory.path_of(f"{member.name.replace(' ', '_')}.pt")
                learned = self.course.learned[member.name]
                judged = {name: value for split in SPLITS for name, value in self._judged_on(learned, split).items()}
                checkpoints.save(path, replace(learned.checkpoint, metrics=judged))
                found[member.name] = str(path)
        return found

    def _judged_on(self, learned: TrainedModel, split: str) -> dict[str, float]:
        return {} if getattr(self.course.prepared, split) is None else self.judge(learned, learned.kept, split)

    def restore(self, trained: Checkpoint) -> None:
        """See the base class. Members that the student does not need are trained for the report all the same."""
        self.course.restore(trained)

    def state(self) -> Any:
        """See the base class."""
        return {**self.course.state(), "warnings": self._log.texts}
