"""All that can be wrong with an experiment file whose sections are valid each by itself, in the order of asking.

A check gives findings: a path in the file, what is wrong there, what to do. The document knows the marks of the paths.
Where one check finds something, those after it are not asked, since they may rest on what is wrong.
"""

from __future__ import annotations

from modelopt_cli.experiment.checks.metrics import expectations, gate_findings, metric_findings, trial_findings
from modelopt_cli.experiment.checks.space import (
    corner_findings,
    ignored_findings,
    initial_findings,
    path_findings,
    space_finding,
)
from modelopt_cli.experiment.checks.strategies import logger_findings, scheduler_findings, strategy_findings
from modelopt_cli.experiment.checks.workflows import (
    distributed_findings,
    latency_findings,
    missing_sections,
    search_findings,
    workflow_findings,
)
from modelopt_cli.experiment.document.document import Document
from modelopt_cli.experiment.document.marks import Finding
from modelopt_cli.experiment.search_space import search_space
from modelopt_cli.experiment.sections import Sections
from modelopt_cli.tuning.search.settings import TuningSettings
from modelopt_cli.tuning.space.space import Space, SpaceError


def check(experiment: Sections, document: Document) -> list[Finding]:
    """What is wrong with the file as a whole. `document`: what the experiment was made from."""
    general = [
        *logger_findings(experiment),
        *metric_findings(experiment),
        *latency_findings(experiment),
        *distributed_findings(experiment),
    ]
    tuning = experiment.tuning
    if tuning is None:
        return [*workflow_findings(experiment), *general, *gate_findings(experiment, [])]
    wrong = general or missing_sections(experiment, tuning) or search_findings(experiment, tuning)
    if wrong:
        return wrong
    try:
        space = search_space(experiment)
        if tuning.sampler.exact:
            space.grid()  # raises for what a grid cannot list
    except SpaceError as error:
        return [space_finding(error)]
    return _searched(experiment, tuning, space, document)


def _searched(experiment: Sections, tuning: TuningSettings, space: Space, document: Document) -> list[Finding]:
    """What is wrong with what is searched, and with what the file's values are together with it."""
    wrong = (
        ignored_findings(tuning, space)
        or strategy_findings(experiment, tuning, space)
        or scheduler_findings(experiment, tuning, space)
        or path_findings(experiment, space, document)
        or corner_findings(experiment, space)
    )
    if wrong:
        return wrong
    trials = expectations(experiment, space)
    return (
        trial_findings(experiment, trials)
        or gate_findings(experiment, trials)
        or initial_findings(experiment, tuning, space)
    )
