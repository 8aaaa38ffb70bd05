"""Whether the stages of a compression make sense one after the other, and have the sections that they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelopt_cli.experiment.document.marks import Finding, Rejected
from modelopt_cli.experiment.pipeline import has_teacher_to_train, stages_of
from modelopt_cli.experiment.recovery import PruningSection
from modelopt_cli.experiment.sections import EXAMPLES, Sections
from modelopt_cli.experiment.stages import StageName
from modelopt_cli.pruning.schedules import Stage

_SECTION = {"train": "training", "distill": "distillation", "prune": "pruning", "quantize": "quantization"}
"""Stage -> the section that it is made by."""
_WORK = ("train", "distill", "prune", "quantize")
_SEEN = {"prune": "pruned", "quantize": "quantized"}


def pipeline_findings(experiment: Sections) -> list[Finding]:
    """What is wrong with the stages; of a file that names none, with those that follow from its sections."""
    stages = stages_of(experiment)
    order = list(_order(stages))
    if order:
        return order
    lacking = list(_lacking(experiment, stages))
    return lacking or list(_unfit(experiment, stages))


def _order(stages: tuple[StageName, ...]) -> Iterator[Finding]:
    """What no file makes sense of. At most one finding for each stage."""
    for number, stage in enumerate(stages):
        before = stages[:number]
        if stage in before:
            yield _at(number, f"{stage} stands there twice", "name each stage once")
        elif stage == "train" and before:
            rule = f"train begins anew, so what {before[-1]} did before it would be lost"
            yield _at(number, rule, "put train first")
        elif stage == "recover" and (not before or before[-1] != "prune"):
            yield _at(number, "recover trains what prune has left, so it follows prune", "put it straight after prune")
        elif "export" in before:
            rule = f"export writes the finished model, so {stage} after it would be in no file"
            yield _at(number, rule, f"put export after {stage}")
        elif "quantize" in before and stage != "export":
            rule = f"{stage} changes weights of floating point, but quantize leaves whole numbers in a file"
            yield _at(number, rule, f"put quantize after {stage}")


def _lacking(experiment: Sections, stages: tuple[StageName, ...]) -> Iterator[Finding]:
    """Stages without their section."""
    if not set(stages) & set(_WORK):
        rule = "there is nothing to compress by: no stage that trains, distils, prunes or quantizes"
        remedy = f"add a section, e.g. {EXAMPLES['pruning']} or {EXAMPLES['quantization']}"
        yield Finding(("pipeline",), rule, remedy, at_key=True)
    for number, stage in enumerate(stages):
        section = _SECTION.get(stage)
        if stage == "train" and has_teacher_to_train(experiment):
            continue
        searched = experiment.tuning is not None and section in experiment.tuning.space
        if section is not None and getattr(experiment, section) is None and not searched:
            yield _at(number, f"the stage {stage} needs a {section} section", f"add one, e.g. {EXAMPLES[section]}")
        pruning = experiment.pruning
        if stage == "recover" and pruning is not None and pruning.recovery is None and pruning.start == "trained":
            rule = "the stage recover needs to know how: pruning.recovery is not there"
            yield _at(number, rule, "add it, e.g. pruning: {recovery: {epochs: 5}}")


def _unfit(experiment: Sections, stages: tuple[StageName, ...]) -> Iterator[Finding]:
    """Stages that do not go with what the sections say."""
    model, pruning = experiment.model, experiment.pruning
    if model is not None and model.framework != "torch":
        yield Finding(("model",), f"a compression takes torch models, but the model is {model.name()}", "use another")
        return
    if experiment.evaluation.cv is not None:
        rule = "a compression is judged on the validation split, not by cross-validation"
        yield Finding(("evaluation", "cv"), rule, "leave out evaluation.cv", at_key=True)
    if stages[:2] == ("train", "distill") and not has_teacher_to_train(experiment):
        rule = (
            "train would train the student, which distill trains from its initial weights; its teachers are there "
            "already, or are trained by the stage distill itself"
        )
        yield _at(0, rule, "leave out train")
    first = next((number for number, stage in enumerate(stages) if stage in ("train", "distill")), len(stages))
    for number, stage in enumerate(stages[:first]):
        initial = pruning is not None and pruning.start == "initial" and "recover" in stages
        if stage in _SEEN and model is not None and not model.is_trained and not (stage == "prune" and initial):
            rule = f"{stage} comes first, but the model {model.name()} is untrained, so noise would be {_SEEN[stage]}"
            yield _at(number, rule, "put train or distill before it, or name a trained model.pt as the model")
            return
        if stage == "prune":
            break
    if "prune" in stages and pruning is not None and any(part.rewind is not None for part in _course(pruning)):
        rule = f"the schedule {pruning.schedule.name()} goes back to an epoch of the training, which has ended before"
        yield Finding(("pruning", "schedule"), rule, "use another, such as rounds; or run modelopt prune")
    if "prune" in stages and "recover" not in stages and pruning is not None and pruning.recovery is not None:
        try:
            experiment.changed({"pruning.recovery": None})
        except Rejected as rejected:
            rule = f"recover is left out, but this pruning cannot do without: {rejected.findings[0].message}"
            yield _at(stages.index("prune"), rule, "put recover after prune")


def _course(pruning: PruningSection) -> Sequence[Stage]:
    settled = pruning.threshold is not None or pruning.structure.fixed
    return pruning.schedule.stages(None if settled else 0.5)


def _at(number: int, rule: str, remedy: str) -> Finding:
    return Finding(("pipeline", number), rule, remedy)
