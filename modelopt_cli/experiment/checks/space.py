"""Whether what is searched fits the file: every path names something in it, every branch and bound is a valid value.

Every branch of every choice, and both ends of every range, are tried on the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.experiment.checks.measured import measured_findings, measured_path
from modelopt_cli.experiment.checks.metrics import CORNERS, metric_findings
from modelopt_cli.experiment.document.document import Document, PathError, text
from modelopt_cli.experiment.document.marks import Finding, Path, Rejected
from modelopt_cli.experiment.sections import Sections
from modelopt_cli.tuning.search.settings import TuningSettings
from modelopt_cli.tuning.space.space import Choice, Ordinal, Space, SpaceError
from modelopt_cli.tuning.space.spec import KINDS
from modelopt_cli.tuning.space.tree import Node

_SPACE: Path = ("tuning", "space")
_FIXED = {
    "version": "says how the file is read",
    "name": "names the run",
    "tuning": "is the search itself",
    "loggers": "says where runs are logged",
    "gates": "judges the best setting when the search has ended",
    "seed": "is what the seeds of all trials derive from: trial n's from it and n",
    "pipeline": "says what is done to the model at all; search the settings of its stages",
    "export": "writes files of the finished model",
    "seeds": "is for runs without a search",
    "device": "says where a model is computed, not what it is",
    "evaluation": "says what results are measured by, and results that are measured otherwise cannot be compared",
}
"""What no search may try, and why."""


def space_finding(error: SpaceError, above: Path = _SPACE) -> Finding:
    """What is wrong with the space as it is written, or with a setting of it that stands at the path `above`."""
    if error.where[:1] == ("rules",):
        rule, _, remedy = error.message.rpartition("; ")
        return Finding(("tuning", *error.where), rule, remedy)
    rule, _, remedy = error.message.partition("; ")
    name = f"{error.where[0]}: " if error.where and not rule.startswith(str(error.where[0])) else ""
    return Finding((*above, *error.where), name + rule, remedy, at_key=rule.startswith("unknown key"))


def ignored_findings(tuning: TuningSettings, space: Space) -> list[Finding]:
    """What is searched, but not looked at by the workflow that trials run."""
    ignored = {
        "train": ("pruning", "distillation", "quantization"),
        "prune": ("distillation", "quantization"),
        "distill": ("pruning", "quantization"),
    }
    findings = []
    for path in dict.fromkeys(root.parameter.path for root in space.roots):
        head = path.partition(".")[0]
        if head in ignored.get(tuning.workflow, ()):
            workflow = {"pruning": "prune", "distillation": "distill"}.get(head, "compress")
            rule = f"trials run the workflow {tuning.workflow}, which does not look at {path}"
            findings.append(Finding((*_SPACE, path), rule, f"set tuning.workflow: {workflow}", at_key=True))
    return findings


def path_findings(experiment: Sections, space: Space, document: Document) -> list[Finding]:
    """Does every path name something in the file? One below a choice is tried with the choice's branches, later."""
    findings = []
    searched = {root.parameter.path for root in space.roots}
    for root in space.roots:
        path = root.parameter.path
        head = path.partition(".")[0]
        measured = measured_path(experiment, path)
        if head in _FIXED:
            rule, remedy = f"a search cannot change '{head}', which {_FIXED[head]}", f"remove {path} from tuning.space"
        elif measured is not None:
            rule, remedy = measured
        elif any(path.startswith(other + ".") for other in searched):
            continue
        else:
            try:
                document.put(path, None)
                continue
            except PathError as error:
                rule = f"the path '{path}' names nothing in this file: {error}"
            free = {key: value for key, value in document.values.items() if key not in _FIXED}
            near = replace(document, values=free).nearest(path)
            remedy = f"did you mean '{near}'?" if near else ""
        findings.append(Finding((*_SPACE, path), rule, remedy, at_key=True))
    return findings


def corner_findings(experiment: Sections, space: Space) -> list[Finding]:
    """What is wrong with settings that together show every branch and bound."""
    findings: dict[Finding, None] = {}
    for setting in islice(space.corners(), CORNERS):
        try:
            trial = experiment.changed(setting)
            wrong = [*metric_findings(trial), *measured_findings(experiment, trial, setting)]
        except Rejected as rejected:
            wrong = list(rejected.findings)
        findings |= dict.fromkeys(_blame(finding, setting, space) for finding in wrong)
    return list(findings)


def _blame(finding: Finding, setting: Mapping[str, Any], space: Space) -> Finding:
    """The finding about a trial's file, at the path in tuning.space that the wrong value comes from."""
    wrong = text(finding.path)
    above = [path for path in setting if wrong == path or wrong.startswith(path + ".")]
    below = [path for path in setting if path.startswith(wrong + ".")]
    if not above:
        values = ", ".join(f"{path} = {setting[path]!r}" for path in below or setting)
        written = _written_at(_node(below[0], setting, space), setting[below[0]]) if below else ()
        return Finding((*_SPACE, *written), f"{finding.message} (when {values})", finding.remedy)
    path = max(above, key=len)
    node, rest = _node(path, setting, space), finding.path[path.count(".") + 1 :]
    if not rest and finding.at_key:
        return _misplaced(node, finding, space)
    return replace(finding, path=(*_SPACE, *_written_at(node, setting[path]), *rest))


def _misplaced(node: Node, finding: Finding, space: Space) -> Finding:
    """A searched key that the chosen section does not have."""
    where, path, remedy = node.where, node.parameter.path, finding.remedy
    key = where[:-1] if len(where) > 1 and where[-1] in KINDS else where
    if node.parameter.condition is None and any(path.startswith(other + ".") for other in space.paths):
        remedy = "search it inside the branches that have it: choice: [{type: ..., key: {float: [...]}}]"
    return Finding((*_SPACE, *key), finding.message, remedy, at_key=True)


def _node(path: str, setting: Mapping[str, Any], space: Space) -> Node:
    active = {id(parameter) for parameter in space.active(setting)}
    nodes = [node for root in space.roots for node in root.walk()]
    return next(node for node in nodes if node.parameter.path == path and id(node.parameter) in active)


def _written_at(node: Node, value: Any) -> Path:
    """Where a value of the node's parameter is written, inside tuning.space."""
    parameter = node.parameter
    if isinstance(parameter, Choice):
        return (*node.where, parameter.index(value))
    if isinstance(parameter, Ordinal):
        return (*node.where, parameter.kind, parameter.index(value))
    if value not in parameter.ends:  # drawn, since with its bounds no rule was kept
        return (*node.where, parameter.kind)
    return (*node.where, parameter.kind, parameter.ends.index(value))


def initial_findings(experiment: Sections, tuning: TuningSettings, space: Space) -> list[Finding]:
    """What is wrong with the settings that the file itself asks to be tried first."""
    findings: list[Finding] = []
    for index, given in enumerate(tuning.initial):
        above: Path = ("tuning", "initial", index)
        for path in given:
            if path not in space.paths:
                remedy = did_you_mean(path, space.paths).strip() or f"searched: {', '.join(space.paths)}"
                rule = f"'{path}' is not searched in tuning.space"
                findings.append(Finding((*above, path), rule, remedy, at_key=True))
        if findings:
            continue
        try:
            setting = space.complete(given, experiment.value)
            broken = space.broken(setting)
            if broken is not None:
                rule = f"this setting breaks the rule '{broken}' of tuning.rules"
                findings.append(Finding(above, rule, "change a value, or the rule"))
                continue
            experiment.changed(setting)
        except SpaceError as error:
            findings.append(space_finding(error, above))
        except Rejected as rejected:
            findings += [Finding(above, item.message, item.remedy) for item in rejected.findings]
    return findings
