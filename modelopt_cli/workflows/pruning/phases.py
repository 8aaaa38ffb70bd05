"""The course of a pruning run: training, collecting movement, then pruning and recovery, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelopt_cli.core.errors import UsageError
from modelopt_cli.training.hooks import StepHook

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.pruning.schedules import Stage
    from modelopt_cli.pruning.settings import PruningSettings
    from modelopt_cli.training.settings import TrainingSettings


@dataclass(frozen=True)
class Phase:
    """A part of the run. Its steps are epochs; a pruning is a step by itself. `stage`: number of the schedule's."""

    kind: Literal["train", "collect", "prune", "recover"]
    settings: TrainingSettings
    stage: int = -1
    first: int = 0  # the epoch to go back to before the phase begins

    @property
    def steps(self) -> int:
        """Steps of the whole phase."""
        return 1 if self.kind == "prune" else self.settings.epochs - self.first


def phases(
    pruning: PruningSettings, training: TrainingSettings, stages: Sequence[Stage], *, trains: bool
) -> list[Phase]:
    """All phases of a run; `trains`: it begins with the training section's training."""
    course = [Phase("train", training)] if trains else []
    recovery = pruning.recovery_over(training)
    if "movement" in getattr(pruning.importance, "needs", ()):
        epochs = getattr(pruning.importance, "epochs", 1)
        course.append(Phase("collect", (recovery or training).model_copy(update={"epochs": epochs})))
    for number, stage in enumerate(stages):
        course.append(Phase("prune", training, number))
        if stage.rewind is not None:
            if stage.rewind >= training.epochs:
                raise UsageError(
                    f"pruning.schedule.rewind is {stage.rewind}, but training has {training.epochs} epochs, so nothing "
                    "would be trained again; set it below training.epochs"
                )
            course.append(Phase("recover", training, number, first=stage.rewind))
        elif recovery is not None:
            course.append(Phase("recover", recovery, number))
    return course


def planned_epochs(experiment: Experiment, *, shared: bool) -> int:
    """Epochs of a whole run; `shared`: its model is trained already."""
    from modelopt_cli.training.settings import TrainingSettings

    pruning = experiment.require_pruning()
    training = experiment.training or TrainingSettings()
    stages = pruning.schedule.stages(None if pruning.threshold is not None else pruning.amount or 0.5)
    course = phases(pruning, training, stages, trains=not shared and needs_training(experiment))
    return sum(phase.steps for phase in course if phase.kind != "prune")


def needs_training(experiment: Experiment) -> bool:
    """Whether pruning begins with training: unless the model is loaded, or pruned as it is initialised.

    Raises UsageError where there is neither a model nor a training section.
    """
    if experiment.require_pruning().start == "initial" or experiment.require_model().is_trained:
        return False
    if experiment.training is None:
        raise UsageError(
            "there is no training section, so the model would be pruned untrained; add one, name a trained model "
            "(model: {type: checkpoint, path: model.pt}), or set pruning.start: initial"
        )
    return True


class PruningHook(StepHook):
    """Prunes further at given shares of a recovery's steps."""

    def __init__(self, marks: Sequence[tuple[float, float]], prune: Callable[[float], None]) -> None:
        """`marks`: (when, how much), those at the very beginning left out; `prune` is called with how much."""
        self._marks, self._prune = sorted(marks), prune
        self._next = 0

    @property
    def done(self) -> bool:
        """No pruning is left."""
        return self._next >= len(self._marks)

    def skip(self, step: int, steps: int) -> None:
        """Leave out what was done before optimizer step `step`: a resumed recovery."""
        while not self.done and self._step(steps) < step:
            self._next += 1

    def before_step(self, step: int, steps: int) -> None:
        """Prune when the time has come."""
        amount = None
        while not self.done and self._step(steps) <= step:
            amount, self._next = self._marks[self._next][1], self._next + 1
        if amount is not None:
            self._prune(amount)

    def _step(self, steps: int) -> int:
        """The optimizer step that the next mark falls on; the last one still leaves a step of recovery."""
        return min(round(self._marks[self._next][0] * steps), steps - 1)
