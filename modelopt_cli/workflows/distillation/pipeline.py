"""The course of a distillation: each of its members in turn, trained unless its stage file is there already.

A step is an epoch (of scikit-learn: a fit). Who is finished lies in a stage file, named by all that it depends on; so
a search trains a teacher once, and a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import TrialError
from modelopt_cli.workflows.distillation import criteria
from modelopt_cli.workflows.distillation.jobs import STUDENT, TrainingJob, members, shared_seed
from modelopt_cli.workflows.distillation.trained_model import TrainedModel, Turn
from modelopt_cli.workflows.runs.estimator import EstimatorRun
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.training.criterion import Criterion

PRINCIPAL = {"classification": "accuracy", "multilabel": "accuracy", "regression": "rmse"}
"""The metric that models of a task are compared by."""


class DistillCourse:
    """`step` of `total` steps are done; `learned` holds who is finished, the student in the end."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        seed: int,
        baseline: bool,
        monitor: str | Sequence[str] | None = None,
        folder: Path,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """`folder`: where stage files and a cache on disk lie."""
        self.experiment, self._seed, self._monitor, self._folder = experiment, seed, monitor, folder
        self.prepared = criteria.student_data(experiment)
        self.members = [shared_seed(one, experiment.seed) for one in members(experiment, seed, baseline=baseline)]
        self.learned: dict[str, TrainedModel] = {}
        self.curve: list[tuple[str, int, dict[str, float]]] = []
        self._place = 0
        self._run: TorchRun | EstimatorRun | None = None
        self._criterion: Criterion | None = None
        self._ended: Any = None  # the state of the student's training after its last step
        self.cached = False  # whether the student's teachers were looked up
        self.step = 0
        if state is not None:
            self.step = int(state["step"])
            self.curve = [(name, int(epoch), dict(found)) for name, epoch, found in state["curve"]]
        self._skip()
        if state is not None and state["run"] is not None and self._place == state["place"]:
            self._open(state["run"])
            if self._run is not None and self._run.step >= self._run.total:  # stopped after the very last step
                self._finish(self._run)
        self.total = self.step + self._left()

    def next(self) -> dict[str, float]:
        """Take one step; its metrics."""
        if self._run is None:
            self._open()
        run = self._run
        assert run is not None
        found: dict[str, float] = {}
        for epoch, metrics in run.advance(run.step + 1):
            found = dict(metrics)
            self.curve.append((self.members[self._place].name, epoch, found))
        self.step += 1
        if run.step >= run.total:
            self._finish(run)
            self._skip()
        self.total = self.step + self._left()
        return found

    @property
    def doing(self) -> str:
        """Who is trained in the next step."""
        return self.members[self._place].name if self._place < len(self.members) else ""

    def unfinished(self) -> TrainedModel:
        """The student as it stands in the middle of its training. Raises TrialError before it has begun."""
        member = self.members[min(self._place, len(self.members) - 1)]
        if self._run is None or member.name != STUDENT:
            raise TrialError("error", f"the run was stopped while the {member.name} was trained, before the student")
        return self._learned(self._run, member)

    def _left(self) -> int:
        """Steps that are still to come, as far as one can know."""
        left = 0
        for place, member in enumerate(self.members[self._place :], start=self._place):
            if place == self._place and self._run is not None:
                left += self._run.total - self._run.step
            elif member.name not in self.learned and not self._is_kept(member):
                torch = member.experiment.require_model().framework == "torch"
                left += member.experiment.require_training().epochs if torch else 1
        return left

    def _is_kept(self, member: TrainingJob) -> bool:
        return member.role == "given" or (member.name != STUDENT and self._file(member).exists())

    def _skip(self) -> None:
        """Past the members that are there already."""
        while self._place < len(self.members) and self._is_kept(self.members[self._place]):
            member = self.members[self._place]
            self.learned[member.name] = (
                member.given(self.prepared)
                if member.role == "given"
                else TrainedModel.load(self._file(member), member.name, self.experiment.consent)
            )
            learned = self.learned[member.name]
            trained = learned.curve if learned.by == self._seed else []
            if trained:  # this very run has trained it; a saved state may hold the beginning
                self.curve = [row for row in self.curve if row[0] != member.name]
                self.curve += [(member.name, epoch, dict(found)) for epoch, found in trained]
                order = {one.name: place for place, one in enumerate(self.members)}
                self.curve.sort(key=lambda row: order[row[0]])
            self._place += 1

    def _open(self, state: Mapping[str, Any] | None = None) -> None:
        """Begin the member's training, or go on with it."""
        member = self.members[self._place]
        experiment = member.experiment
        if experiment.require_model().framework == "sklearn":
            self._run = EstimatorRun(experiment, data_cache.prepared_data(experiment), seed=member.seed, wanted=[])
            return
        prepared = data_cache.prepared_data(experiment) if member.role == "teacher" else self.prepared
        self._criterion = None
        if member.distilled:
            taught_by = [self.learned[name].module(self.prepared) for name in member.taught_by]
            self._criterion = criteria.criterion_of(experiment, taught_by, prepared, member.seed, self._folder)
        monitored = prepared.validation is not None
        training = experiment.require_training()
        if monitored:  # both the last and the best epoch are reported, whichever is kept
            monitor = training.monitored or f"validation.{PRINCIPAL[prepared.task]}"
            training = training.model_copy(update={"keep": "best", "monitor": monitor})
        self._run = TorchRun(
            experiment.model_copy(update={"training": training}),
            prepared,
            seed=member.seed,
            monitor=self._monitor if member.name == STUDENT else None,
            state=state,
            criterion=self._criterion,
        )

    def _finish(self, run: TorchRun | EstimatorRun) -> None:
        """Keep what the member has become."""
        member = self.members[self._place]
        self._ended = run.state() if member.name == STUDENT else None
        learned = self._learned(run, member)
        learned.by = self._seed
        learned.curve = [(epoch, found) for name, epoch, found in self.curve if name == member.name]
        if self._criterion is not None:
            self._criterion.close()
            self.cached = getattr(self._criterion, "cached", False)
        self.learned[member.name] = learned
        if member.name != STUDENT:
            learned.save(self._file(member))
        self._place, self._run, self._criterion = self._place + 1, None, None

    def _learned(self, run: TorchRun | EstimatorRun, member: TrainingJob) -> TrainedModel:
        if isinstance(run, EstimatorRun):
            return TrainedModel(member.name, run.checkpoint(run.metrics()), seconds=run.metrics()["train.seconds"])
        trainer = run.trainer
        states: dict[Turn, Mapping[str, Any]] = {"last": _state(trainer.module)}
        epochs: dict[Turn, int] = {"last": trainer.epoch}
        trainer.finish()
        if trainer.best_epoch is not None:
            states["best"], epochs["best"] = _state(trainer.module), trainer.best_epoch
        kept: Turn = "best" if member.experiment.require_training().keeps_best and "best" in states else "last"
        if kept == "last":
            trainer.return_to_last()
        return TrainedModel(member.name, run.checkpoint({}), kept, states, epochs, run.seconds)

    def _file(self, member: TrainingJob) -> Path:
        """The member's stage file."""
        return self._folder / f"{self._digest(member)}.pt"

    def _digest(self, member: TrainingJob) -> str:
        """Of all that the member depends on."""
        experiment = member.experiment
        sections = {
            name: None if section is None else section.model_dump(mode="json")
            for name, section in (("model", experiment.model), ("training", experiment.training))
        }
        by_name = {one.name: one for one in self.members}
        parts: dict[str, Any] = {
            "data": data_cache.pinned_data(experiment),
            **sections,
            "files": [_stamp(path) for path in _files(member)],
            "seed": member.seed,
            "fingerprint": data_cache.prepared_data(experiment).fingerprint,
            "taught by": [self._digest(by_name[name]) for name in member.taught_by],
        }
        if member.role != "teacher":
            settings = experiment.require_distillation()
            parts["leave out"] = list(settings.leave_out)
            if member.distilled:
                parts["guidance"] = settings.model_dump(mode="json", include=criteria.DECIDING)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def state(self) -> dict[str, Any]:
        """Everything that going on from here needs, beside the stage files."""
        return {
            "step": self.step,
            "place": self._place - (self._ended is not None),
            "curve": [[name, epoch, found] for name, epoch, found in self.curve],
            "run": self._ended if self._run is None else self._run.state(),
        }

    def train_teachers(self) -> None:
        """Train those that come before everyone else."""
        while self._place < len(self.members) and self.members[self._place].role in ("given", "teacher"):
            self.next()

    def restore(self, trained: Checkpoint) -> None:
        """The student is one that was trained before from the same setting and seed; whoever is missing is trained."""
        while self._place < len(self.members) - 1:
            self.next()
        self.learned[STUDENT] = TrainedModel(STUDENT, trained)
        self._place, self._run, self.total = len(self.members), None, self.step


def _state(module: nn.Module) -> dict[str, Any]:
    from modelopt_cli.training.copies import copied

    return dict(copied(module.state_dict(), "cpu"))


def _files(member: TrainingJob) -> list[str]:
    """Files that the member's model comes from."""
    model, settings = member.experiment.require_model(), member.settings
    named = [getattr(model, field, None) for field in model.path_fields]
    named += [settings.path, settings.weights] if settings is not None and member.role == "given" else []
    return [str(path) for path in named if path]


def _stamp(path: str) -> list[Any]:
    """Changes when the file does."""
    found = Path(path)
    if not found.is_file():
        return [path]
    status = found.stat()
    return [path, status.st_size, status.st_mtime_ns]
