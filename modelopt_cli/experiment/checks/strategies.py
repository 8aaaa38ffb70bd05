"""What the strategies of a search (sampler, executor, scheduler) would refuse when the search begins."""

from __future__ import annotations

from collections.abc import Iterator

from modelopt_cli.core.errors import UsageError
from modelopt_cli.experiment.document.marks import Finding, Path
from modelopt_cli.experiment.sections import Sections
from modelopt_cli.tuning.executors import Limits
from modelopt_cli.tuning.search.settings import TuningSettings
from modelopt_cli.tuning.space.space import Space


def strategy_findings(experiment: Sections, tuning: TuningSettings, space: Space) -> list[Finding]:
    """What the sampler and the executor would refuse."""
    findings = []
    try:
        tuning.sampler.check()
        tuning.sampler.check_space(space)
    except UsageError as error:
        findings.append(_finding(("tuning", "sampler"), str(error)))
    if tuning.executor != "auto":
        problem = tuning.executor.problem(Limits(tuning.trial_timeout, tuning.trial_memory_bytes))
        if problem is None and tuning.workflow != "command":
            problem = tuning.executor.device_problem(experiment.device)
        if problem is not None:
            findings.append(_finding(("tuning", "executor"), problem))
    return findings


def logger_findings(experiment: Sections) -> list[Finding]:
    """Loggers whose package is not there."""
    findings = []
    for number, logger in enumerate(experiment.loggers):
        try:
            logger.check()
        except UsageError as error:
            findings.append(_finding(("loggers", str(number)), str(error)))
    return findings


def _finding(path: Path, problem: str) -> Finding:
    """From `rule; remedy`."""
    rule, _, remedy = problem.partition("; ")
    return Finding(path, rule, remedy)


def scheduler_findings(experiment: Sections, tuning: TuningSettings, space: Space) -> list[Finding]:
    """That a scheduler's options fit the space, and that states can be copied where it copies them."""
    scheduler = tuning.named_scheduler
    if scheduler is None:
        return []
    uncopied = list(_uncopied(experiment, tuning, scheduler.name())) if scheduler.copies else []
    if uncopied:
        return uncopied
    problem = scheduler.problem(tuning.trials, space)
    return [] if problem is None else [_finding(("tuning", "scheduler"), problem)]


def _uncopied(experiment: Sections, tuning: TuningSettings, name: str) -> Iterator[Finding]:
    """Where a trial's state is no training's that another one could go on from."""
    begins = f"the scheduler {name} lets a training go on from another one's state"
    other = "use another scheduler, such as freeze_thaw"
    if tuning.workflow != "train":
        rule = f"{begins}, which the workflow {tuning.workflow} cannot"
        yield Finding(("tuning", "workflow"), rule, f"set tuning.workflow: train, or {other}")
    elif experiment.require_model().framework != "torch":
        rule = f"{begins}, but {experiment.require_model().name()} is fitted in one step"
        yield Finding(("model",), rule, "use a torch model, or no scheduler")
    if experiment.evaluation.cv is not None:
        rule = f"{begins}, but the steps of a cross-validation are whole trainings"
        yield Finding(("evaluation", "cv"), rule, f"leave out evaluation.cv, or {other}", at_key=True)
    if tuning.refit is not None:
        rule = f"the best model of {name} came about by several settings, one after the other, which no refit repeats"
        yield Finding(("tuning", "refit"), rule, "leave out tuning.refit", at_key=True)
    if tuning.repeats:
        rule = f"a copy of {name} is worth what its ancestors' settings made of it, so no setting can be tried again"
        yield Finding(("tuning", "repeats"), rule, "leave out tuning.repeats", at_key=True)
