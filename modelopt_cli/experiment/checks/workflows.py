"""What a workflow asks of the file's sections: the one that a file without a search is made for, or that trials run."""

from __future__ import annotations

from collections.abc import Iterator

from modelopt_cli.experiment.checks.pipeline import pipeline_findings
from modelopt_cli.experiment.document.marks import Finding, Path
from modelopt_cli.experiment.expected_metrics import expect_metrics
from modelopt_cli.experiment.sections import EXAMPLES, Sections
from modelopt_cli.tuning.search.settings import TuningSettings


def workflow_findings(experiment: Sections) -> list[Finding]:
    """Of a file without a search: a file with a distillation is for `modelopt distill`, one with a pruning for `prune`.

    One without a model is about models that lie in files, and has nothing to check.
    """
    if experiment.model is None:
        return []
    findings: list[Finding] = pipeline_findings(experiment) if experiment.pipeline else []
    if experiment.distillation is not None:
        findings += _distillation(experiment)
    if experiment.pruning is not None:
        findings += _unfit(experiment, "pruning", "the model", "pruning takes torch models")
    return findings


def _distillation(experiment: Sections) -> Iterator[Finding]:
    takes = "distillation trains torch models (a teacher may be of scikit-learn)"
    unfit = list(_unfit(experiment, "distillation", "the student", takes))
    yield from unfit
    for name in ("data", "training"):
        if not unfit and getattr(experiment, name) is None:
            rule = f"a distillation needs a {name} section"
            yield Finding(("distillation",), rule, f"add one, e.g. {EXAMPLES[name]}", at_key=True)


def _unfit(experiment: Sections, what: str, who: str, takes: str) -> Iterator[Finding]:
    model = experiment.require_model()
    if model.framework != "torch":
        yield Finding(("model",), f"{who} is {model.name()}, but {takes}", "use another model")
    if experiment.evaluation.cv is not None:
        yield _folded(what)


def _folded(what: str) -> Finding:
    rule = f"a {what} is judged on the validation split, not by cross-validation"
    return Finding(("evaluation", "cv"), rule, "leave out evaluation.cv", at_key=True)


def latency_findings(experiment: Sections) -> list[Finding]:
    """Of a file that asks for latency where no forward pass is run that could be timed."""
    model = experiment.model
    if experiment.evaluation.latency is None or (model is not None and model.framework == "torch"):
        return []
    what = "there is no model section" if model is None else f"the model is {model.name()}"
    rule = f"latency is that of a torch model's forward pass, but {what}"
    return [Finding(("evaluation", "latency"), rule, "leave out evaluation.latency", at_key=True)]


def distributed_findings(experiment: Sections) -> list[Finding]:
    """Of a training over several processes where something else than a plain training takes that section."""
    training = experiment.training
    if training is None or training.distributed is None:
        return []
    others = [name for name in ("distillation", "pruning", "quantization") if getattr(experiment, name) is not None]
    if experiment.model is not None and experiment.model.framework != "torch":
        rule = f"torch models are trained in several processes, but the model is {experiment.model.name()}"
    elif others:
        rule = f"a plain training runs in several processes, but the file has a {others[0]} section, which runs in one"
    else:
        return []
    remedy = "leave it out" if not others else "leave it out, or train in a file of its own and name its model.pt here"
    return [Finding(("training", "distributed"), rule, remedy, at_key=True)]


def missing_sections(experiment: Sections, tuning: TuningSettings) -> list[Finding]:
    """Sections that trials need, and that the file lacks."""
    needed = ["command"] if tuning.workflow == "command" else ["data", "model"]
    if tuning.workflow == "train" and experiment.model is not None and experiment.model.framework == "torch":
        needed.append("training")
    needed += {"prune": ["pruning"], "distill": ["training", "distillation"]}.get(tuning.workflow, [])
    pruning, model = experiment.pruning, experiment.model
    if tuning.workflow == "prune" and pruning is not None and model is not None:
        given = model.name() == "checkpoint" or pruning.start == "initial"
        searched = {path.partition(".")[0] for path in tuning.space}
        if not given and not searched & {"model", "training"} and not {"pruning", "pruning.start"} & {*tuning.space}:
            needed.append("training")  # else the model would be pruned untrained
    path: Path = ("tuning", "workflow") if "workflow" in tuning.model_fields_set else ("tuning",)
    findings = []
    for name in needed:
        if getattr(experiment, name) is None:
            remedy = f"add one, e.g. {EXAMPLES[name]}"
            if name != "command" and experiment.command is not None:
                remedy = "to search a script's parameters, set tuning.workflow: command"
            rule = f"the workflow {tuning.workflow} needs a {name} section"
            findings.append(Finding(path, rule, remedy, at_key=len(path) == 1))
    return findings


def search_findings(experiment: Sections, tuning: TuningSettings) -> list[Finding]:
    """What a search cannot have, or a search over prunings or distillations."""
    findings = []
    if experiment.seeds > 1:
        rule = "a search draws the seeds of its trials itself"
        findings.append(Finding(("seeds",), rule, "leave out seeds, or run the file without tuning", at_key=True))
    if tuning.workflow == "compress":
        findings += pipeline_findings(experiment)
        if tuning.repeats:
            rule = "trials of a compression share the experiment's seed, so a setting comes out the same every time"
            findings.append(Finding(("tuning", "repeats"), rule, "leave out tuning.repeats", at_key=True))
        if tuning.fidelity is not None:
            rule = "tuning.fidelity trains on parts of the train split, which no other stage than train can"
            findings.append(Finding(("tuning", "fidelity"), rule, "leave it out", at_key=True))
        if findings:
            return findings
    expected = expect_metrics(experiment, tuning.workflow, searched=True)
    if expected is not None and not expected.judged("validation"):
        rule = "the validation split is empty, so a search has nothing to choose by"
        remedy = "set data.splits.validation (e.g. 0.2) or evaluation.cv (e.g. 5)"
        return [*findings, Finding(("data", "splits", "validation"), rule, remedy)]
    what = {"prune": "pruning", "distill": "distillation", "compress": "compression"}.get(tuning.workflow)
    if what is None:
        return findings
    if experiment.evaluation.cv is not None:
        findings.append(_folded(what))
    if tuning.refit is not None:
        rule = f"the model of a {what} is not fitted again"
        findings.append(Finding(("tuning", "refit"), rule, "leave out tuning.refit", at_key=True))
    model = experiment.require_model()
    if model.framework != "torch":
        rule = f"the workflow {tuning.workflow} takes torch models, but the model is {model.name()}"
        findings.append(Finding(("model",), rule, "use another model"))
    return findings
