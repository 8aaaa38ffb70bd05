"""One distillation as a run: teachers and what else is wanted first, then the student, then all are judged.

A step is an epoch (of scikit-learn: a fit). Who is finished lies in a stage file, named by all that it depends on; so
a search trains a teacher once, and a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from modelopt_cli.core.errors import TrialError
from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.core.work import tell
from modelopt_cli.results.report import Table
from modelopt_cli.tuning.objective import Part, StepReport
from modelopt_cli.workflows.distillation import criteria
from modelopt_cli.workflows.distillation.comparison import PRINCIPAL, Comparison
from modelopt_cli.workflows.distillation.jobs import STUDENT, TrainingJob, digest, training_jobs, with_shared_seed
from modelopt_cli.workflows.distillation.teachers import given
from modelopt_cli.workflows.distillation.trained_model import TrainedModel, Turn
from modelopt_cli.workflows.runs.base import RestorableRun
from modelopt_cli.workflows.runs.estimator import EstimatorRun
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.results.run_directory import RunDirectory
    from modelopt_cli.training.criterion import Criterion


_FORWARD = 0.3  # of a teacher's epoch is what asking it once for all samples costs


class DistillState(TypedDict, total=False):
    """Everything that going on needs, beside the stage files. States of earlier versions have no `warnings`."""

    step: int
    place: int  # number of the job under way, or next
    curve: list[tuple[str, int, dict[str, float]]]
    run: Any  # the state of that job's training: of a TorchRun, or of an EstimatorRun, which has none
    warnings: list[str]


class DistillRun(RestorableRun):
    """Trains one job after another, unless its stage file is there; the model is the student, which comes last."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        seed: int,
        baseline: bool | None = None,
        monitor: str | Sequence[str] | None = None,
        folder: Path,
        state: DistillState | None = None,
        costed: bool = True,
        timed: bool = True,
    ) -> None:
        """`baseline`: train the student alone too; None: as the section says.

        `folder`: where stage files and a cache on disk lie. `costed`: metrics hold what the student costs, `timed` also
        how long it takes: seconds of measuring.
        """
        self._experiment, self._seed, self._monitor, self._folder = experiment, seed, monitor, folder
        self._costed, self._timed = costed, timed
        self._log = WarningLog(() if state is None else state.get("warnings", ()))
        wanted = experiment.require_distillation().baseline if baseline is None else baseline
        self.trained: dict[str, TrainedModel] = {}  # name -> whoever is finished, the student in the end
        self.curve: list[tuple[str, int, dict[str, float]]] = []  # (name, epoch, metrics) of all jobs
        self.cached = False  # whether the student's teachers were looked up
        self._number = 0  # of the job under way, or next
        self._run: TorchRun | EstimatorRun | None = None  # its training
        self._criterion: Criterion | None = None
        self._ended: Any = None  # the state of the student's training after its last step
        with self._log.recording():
            self.prepared = criteria.student_data(experiment)
            jobs = training_jobs(experiment, seed, baseline=wanted)
            self.jobs = [with_shared_seed(job, experiment.seed) for job in jobs]
            self.comparison = Comparison(experiment, self.prepared, self.trained, self._log)
            self.answers = self.comparison.answers
            if state is not None:
                self.step = int(state["step"])
                self.curve = [(name, int(epoch), dict(metrics)) for name, epoch, metrics in state["curve"]]
            self._skip()
            if state is not None and state["run"] is not None and self._number == state["place"]:
                run = self._open(state["run"])
                if run.step >= run.total:  # stopped after the very last step
                    self._finish(run)
        self._count()

    def advance(self, until: int) -> list[StepReport]:
        """Train up to step `until`."""
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            with self._log.recording():
                reports.append((self.step + 1, self._next()))
        return reports

    def _next(self) -> dict[str, float]:
        """Take one step; its metrics."""
        run = self._run or self._open()
        last: dict[str, float] = {}
        for epoch, metrics in run.advance(run.step + 1):
            last = dict(metrics)
            self.curve.append((self.jobs[self._number].name, epoch, last))
        self.comparison.forget(self.jobs[self._number].name)
        if self.early_costs is not None and isinstance(run, TorchRun) and self.jobs[self._number].name == STUDENT:
            last |= self.early_costs.of(run.trainer.module)
        self.step += 1
        if run.step >= run.total:
            self._finish(run)
            self._skip()
        self._count()
        return last

    def _count(self) -> None:
        """How many steps there are, as far as one can know, and who is trained in the next one."""
        left = 0
        for number, job in enumerate(self.jobs[self._number :], start=self._number):
            if number == self._number and self._run is not None:
                left += self._run.total - self._run.step
            elif job.name not in self.trained and not self._is_kept(job):
                torch = job.experiment.require_model().framework == "torch"
                left += job.experiment.require_training().epochs if torch else 1
        self.total = self.step + left
        self.doing = self.jobs[self._number].name if self._number < len(self.jobs) else ""

    @property
    def ahead(self) -> list[Part]:
        """See the base class: epochs of each job cost alike; with teachers, as much more as asking them costs."""
        parts, by_name = [], {job.name: job for job in self.jobs}
        for number, job in enumerate(self.jobs[self._number :], start=self._number):
            under_way = number == self._number and self._run is not None
            if not under_way and (job.name in self.trained or self._is_kept(job)):
                continue
            torch = job.experiment.require_model().framework == "torch"
            epochs = job.experiment.require_training().epochs if torch else 1
            steps = self._run.total - self._run.step if under_way and self._run is not None else epochs
            alone = next((one.name for one in self.jobs[:number] if one.role == "alone"), None)
            trained = [name for name in job.taught_by if by_name[name].role != "given"]
            like: tuple[tuple[str, float], ...] = ()
            if job.name == STUDENT and alone is not None:
                like = ((alone, 1.1), *((name, _FORWARD) for name in trained))
            parts.append(Part(job.name, steps, like, counts="batches" if torch else ""))
        return parts

    def _is_kept(self, job: TrainingJob) -> bool:
        return job.role == "given" or (job.name != STUDENT and self._file(job).exists())

    def _file(self, job: TrainingJob) -> Path:
        """The job's stage file."""
        return self._folder / f"{digest(job, self.jobs)}.pt"

    def _skip(self) -> None:
        """Past the jobs whose models are there already."""
        while self._number < len(self.jobs) and self._is_kept(self.jobs[self._number]):
            job = self.jobs[self._number]
            consent = self._experiment.consent
            if job.role == "given":
                assert job.settings is not None
                model = given(job.settings, job.name, job.seed, self.prepared, job.experiment.consent)
            else:
                model = TrainedModel.load(self._file(job), job.name, consent)
            self.trained[job.name] = model
            if model.curve and model.by == self._seed:  # trained by this very run; a saved state may hold the beginning
                self.curve = [row for row in self.curve if row[0] != job.name]
                self.curve += [(job.name, epoch, dict(metrics)) for epoch, metrics in model.curve]
                order = {one.name: number for number, one in enumerate(self.jobs)}
                self.curve.sort(key=lambda row: order[row[0]])
            self._number += 1

    def _open(self, state: Any = None) -> TorchRun | EstimatorRun:
        """Begin the job's training, or go on with it from a state."""
        job = self.jobs[self._number]
        experiment = job.experiment
        if experiment.require_model().framework == "sklearn":
            prepared = data_cache.prepared_data(experiment)
            self._run = EstimatorRun(experiment, prepared, seed=job.seed, wanted=[])
            return self._run
        prepared = data_cache.prepared_data(experiment) if job.role == "teacher" else self.prepared
        self._criterion = None
        if job.distilled:
            teachers = [self.trained[name].module(self.prepared) for name in job.taught_by]
            self._criterion = criteria.criterion_of(experiment, teachers, prepared, job.seed, self._folder)
        training = experiment.require_training()
        if prepared.validation is not None:  # both the last and the best epoch are reported, whichever is kept
            monitor = training.monitored or f"validation.{PRINCIPAL[prepared.task]}"
            training = training.model_copy(update={"keep": "best", "monitor": monitor})
        self._run = TorchRun(
            experiment.model_copy(update={"training": training}),
            prepared,
            seed=job.seed,
            monitor=self._monitor if job.name == STUDENT else None,
            state=state,
            criterion=self._criterion,
        )
        if state is None and job.distilled and experiment.require_distillation().start == "teacher":
            self._start_from(self.trained[job.taught_by[0]], self._run.trainer.module)
        return self._run

    def _start_from(self, teacher: TrainedModel, student: nn.Module) -> None:
        """Give the student what it has in common with its teacher; tell where that is nothing."""
        from torch import nn

        from modelopt_cli.distillation.starting import start_from

        model = teacher.checkpoint.model
        if not (isinstance(model, nn.Module) and start_from(student, model)):
            text = f"distillation.start is teacher, but no layer of the student is like one of the {teacher.name}'s"
            self._log.add([f"{text} (same path, names and shapes), so it begins as drawn"])

    def _finish(self, run: TorchRun | EstimatorRun) -> None:
        """Keep what the job's model has become."""
        job = self.jobs[self._number]
        self._ended = run.state() if job.name == STUDENT else None
        model = _trained(run, job)
        model.by = self._seed
        model.curve = [(epoch, metrics) for name, epoch, metrics in self.curve if name == job.name]
        if self._criterion is not None:
            self._criterion.close()
            self.cached = getattr(self._criterion, "cached", False)
        self.trained[job.name] = model
        if job.name != STUDENT:
            model.save(self._file(job))
        self._number, self._run, self._criterion = self._number + 1, None, None

    def train_teachers(self) -> None:
        """Train those that come before everyone else."""
        while self._number < len(self.jobs) and self.jobs[self._number].role in ("given", "teacher"):
            tell("epochs in all", self.step, self.total)
            self._next()

    def restore(self, trained: Checkpoint) -> None:
        """The student is one that was trained before from the same setting and seed.

        Whoever is missing is trained, for the report also those that the student does not need.
        """
        while self._number < len(self.jobs) - 1:
            self._next()
        self.trained[STUDENT] = TrainedModel(STUDENT, trained)
        self._number, self._run = len(self.jobs), None
        self._count()

    def state(self) -> DistillState:
        """See the base class."""
        return {
            "step": self.step,
            "place": self._number - (self._ended is not None),
            "curve": [[name, epoch, metrics] for name, epoch, metrics in self.curve],  # type: ignore[misc]  # as JSON
            "run": self._ended if self._run is None else self._run.state(),
            "warnings": self._log.texts,
        }

    @property
    def warnings(self) -> list[str]:
        """What whoever was trained told, and what the figures of teacher and student do not show."""
        of_models = [f"{name}: {text}" for name, model in self.trained.items() for text in model.checkpoint.warnings]
        remarks = self.comparison.remarks(self.jobs) if STUDENT in self.trained else []
        return list(dict.fromkeys([*self._log.texts, *of_models, *remarks]))

    @property
    def student(self) -> TrainedModel:
        """The student: finished, or as it stands when the run is stopped early. Raises TrialError before it began."""
        if STUDENT in self.trained:
            return self.trained[STUDENT]
        job = self.jobs[min(self._number, len(self.jobs) - 1)]
        if self._run is None or job.name != STUDENT:
            raise TrialError("error", f"the run was stopped while the {job.name} was trained, before the student")
        return _trained(self._run, job)

    @property
    def module(self) -> nn.Module | None:
        """The student's module, finished or while it is trained; None: its training has not begun."""
        if STUDENT in self.trained:
            module: nn.Module = self.trained[STUDENT].checkpoint.model
            return module
        under_way = self._number < len(self.jobs) and self.jobs[self._number].name == STUDENT
        return self._run.trainer.module if under_way and isinstance(self._run, TorchRun) else None

    def metrics(self) -> Mapping[str, float]:
        """Every metric on the validation split, the student's size, the seconds that its training took."""
        from modelopt_cli.models.summary import summarise

        student = self.student
        return {
            **self.comparison.of_student(student, "validation"),
            **summarise(student.checkpoint.model),
            "train.seconds": student.seconds,
            "train.epochs": float(student.epochs.get(student.kept, 0)),
            **(self.comparison.costs(student, timed=self._timed) if self._costed else {}),
        }

    def full_metrics(self) -> Mapping[str, float]:
        """See the base class."""
        return self.comparison.of_student(self.student, "validation")

    def test_metrics(self) -> Mapping[str, float]:
        """See the base class."""
        return self.comparison.of_student(self.student, "test")

    def costs(self, judged: Mapping[str, float]) -> dict[str, float]:
        """What the student costs, as metrics; measured once, in turns with its (first) teacher."""
        return self.comparison.costs(self.student)

    @property
    def noise(self) -> list[str]:
        """See the base class."""
        return self.comparison.noise

    @property
    def details(self) -> Mapping[str, object]:
        """See the base class."""
        return self.comparison.details

    def tables(self) -> dict[str, Table]:
        """learners, costs and latency, as the comparison has them; curve: every epoch of all."""
        compared = self.comparison.tables(self.student)
        return {"learners": compared.pop("learners"), "curve": self.curve_table(), **compared}

    def curve_table(self) -> Table:
        """A row an epoch of a job."""
        return Table.from_records([{"learner": name, "epoch": epoch, **metrics} for name, epoch, metrics in self.curve])

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The student with all that using it needs; projectors and the like are left behind."""
        student = self.student.checkpoint
        extra = {name: value for name, value in student.extra.items() if name != "loss"}  # all are judged by the task's
        return replace(student, metrics=dict(metrics), extra=extra)

    def keep_teachers(self, directory: RunDirectory) -> dict[str, str]:
        """Write the teachers that were trained here, so that the next run need not train them again: name -> path."""
        from modelopt_cli.models.files import checkpoints

        self.train_teachers()
        paths = {}
        for job in self.jobs:
            if job.role == "teacher":
                path = directory.path_of(f"{job.name.replace(' ', '_')}.pt")
                model, metrics = self.trained[job.name], dict[str, float]()
                for split in ("validation", "test"):
                    metrics |= self.comparison.judge(model, model.kept, split)
                checkpoints.save(path, replace(model.checkpoint, metrics=metrics))
                paths[job.name] = str(path)
        return paths


def _trained(run: TorchRun | EstimatorRun, job: TrainingJob) -> TrainedModel:
    """The job's model as it stands, after the last and the best epoch."""
    if isinstance(run, EstimatorRun):
        return TrainedModel(job.name, run.checkpoint(run.metrics()), seconds=run.metrics()["train.seconds"])
    trainer = run.trainer
    states: dict[Turn, Mapping[str, Any]] = {"last": _copied_state(trainer.module)}
    epochs: dict[Turn, int] = {"last": trainer.epoch}
    trainer.finish()
    if trainer.best_epoch is not None:
        states["best"], epochs["best"] = _copied_state(trainer.module), trainer.best_epoch
    kept: Turn = "best" if job.experiment.require_training().keeps_best and "best" in states else "last"
    if kept == "last":
        trainer.return_to_last()
    return TrainedModel(job.name, run.checkpoint({}), kept, states, epochs, run.seconds)


def _copied_state(module: nn.Module) -> dict[str, Any]:
    from modelopt_cli.training.copies import copied

    return dict(copied(module.state_dict(), "cpu"))
