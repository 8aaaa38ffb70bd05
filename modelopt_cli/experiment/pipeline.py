"""Which stages a compression has: those that `pipeline:` names, or else those whose sections are there."""

from __future__ import annotations

from modelopt_cli.experiment.sections import Sections
from modelopt_cli.experiment.stages import StageName
from modelopt_cli.training.settings import TrainingSettings


def stages_of(experiment: Sections) -> tuple[StageName, ...]:
    """The stages in the order in which they run; as the file says, or by its sections."""
    if experiment.pipeline:
        return experiment.pipeline
    stages: list[StageName] = []
    if _trains(experiment):
        stages.append("train")
    if experiment.distillation is not None:
        stages.append("distill")
    if experiment.pruning is not None:
        stages.append("prune")
        if experiment.pruning.recovery_over(experiment.training or TrainingSettings()) is not None:
            stages.append("recover")
    if experiment.quantization is not None:
        stages.append("quantize")
    if experiment.export is not None:
        stages.append("export")
    return tuple(stages)


def trains_teacher(experiment: Sections, stages: tuple[StageName, ...]) -> bool:
    """Whether the stage `train` is about the teacher of the stage that follows, and not about the model."""
    return stages[:2] == ("train", "distill") and has_teacher_to_train(experiment)


def has_teacher_to_train(experiment: Sections) -> bool:
    """Whether there is exactly one teacher, a torch module that is trained here: a stage of its own can do that."""
    teachers = () if experiment.distillation is None else experiment.distillation.given_teachers
    if len(teachers) != 1 or not teachers[0].trained_here:
        return False
    model = teachers[0].model
    return model is not None and model.framework == "torch"


def _trains(experiment: Sections) -> bool:
    if experiment.distillation is not None:
        return has_teacher_to_train(experiment)
    initial = experiment.pruning is not None and experiment.pruning.start == "initial"
    loaded = experiment.model is not None and bool(experiment.model.is_trained)
    return experiment.training is not None and not loaded and not initial
