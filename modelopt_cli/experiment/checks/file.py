"""What no section can check alone: which sections a workflow needs, and whether the search space fits the file.

Every branch of every choice, and both ends of every range, are tried on the file at load.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.experiment.checks.measured import measured_findings, measured_path
from modelopt_cli.experiment.checks.metrics import (
    CORNERS,
    expectations,
    gate_findings,
    metric_findings,
    trial_findings,
)
from modelopt_cli.experiment.checks.scheduler import scheduler_problems
from modelopt_cli.experiment.checks.workflows import workflow_problems
from modelopt_cli.experiment.document import document as paths
from modelopt_cli.experiment.document.marks import Finding, Marks, Path, Problem, Rejected
from modelopt_cli.experiment.examples import EXAMPLES
from modelopt_cli.experiment.expected_metrics import outlook
from modelopt_cli.experiment.experiment import TOP, Experiment
from modelopt_cli.experiment.search_space import search_space
from modelopt_cli.tuning.executors import Limits
from modelopt_cli.tuning.search.settings import TuningSettings
from modelopt_cli.tuning.space.space import Choice, Ordinal, Space, SpaceError
from modelopt_cli.tuning.space.spec import KINDS

if TYPE_CHECKING:
    from modelopt_cli.tuning.space.tree import Node

_SPACE: Path = ("tuning", "space")
_FIXED = {
    "version": "says how the file is read",
    "name": "names the run",
    "tuning": "is the search itself",
    "gates": "judges the best setting when the search has ended",
    "seed": "is what the seeds of all trials derive from: trial n's from it and n",
    "seeds": "is for runs without a search",
    "device": "says where a model is computed, not what it is",
    "evaluation": "says what results are measured by, and results that are measured otherwise cannot be compared",
}
"""What no search may try, and why."""


def check(experiment: Experiment, marks: Marks) -> list[Problem]:
    """All problems of a file whose sections are valid each by itself."""
    general = [finding.at(marks) for finding in metric_findings(experiment)]
    tuning = experiment.tuning
    if tuning is None:
        gates = [finding.at(marks) for finding in gate_findings(experiment, [])]
        return [*workflow_problems(experiment, marks), *general, *gates]
    return general or _search_problems(experiment, tuning, marks)


def _search_problems(experiment: Experiment, tuning: TuningSettings, marks: Marks) -> list[Problem]:
    problems = _sections(experiment, tuning, marks) or _searchable(experiment, tuning, marks)
    if problems:
        return problems
    try:
        space = search_space(experiment)
        if tuning.sampler.exact:
            space.grid()  # raises for what a grid cannot list
    except SpaceError as error:
        if error.where[:1] == ("rules",):
            rule, _, remedy = error.message.rpartition("; ")
            return [Problem(marks.value(("tuning", *error.where)), rule, remedy)]
        return [_space_problem(error, _SPACE, marks)]
    return (
        _ignored(tuning, space, marks)
        or _strategies(tuning, space, marks)
        or scheduler_problems(experiment, space, marks)
        or _paths(experiment, space, marks)
        or _corners(experiment, space, marks)
        or _metrics(experiment, space, marks)
        or _initial(experiment, space, marks)
    )


def _strategies(tuning: TuningSettings, space: Space, marks: Marks) -> list[Problem]:
    """What the sampler and the executor would refuse when the search begins."""
    found = []
    try:
        tuning.sampler.check()
        tuning.sampler.check_space(space)
    except UsageError as error:
        rule, _, remedy = str(error).partition("; ")
        found.append(Problem(marks.value(("tuning", "sampler")), rule, remedy))
    if tuning.executor != "auto":
        problem = tuning.executor.problem(Limits(tuning.trial_timeout, tuning.trial_memory_bytes))
        if problem is not None:
            rule, _, remedy = problem.partition("; ")
            found.append(Problem(marks.value(("tuning", "executor")), rule, remedy))
    return found


def _metrics(experiment: Experiment, space: Space, marks: Marks) -> list[Problem]:
    """What is named, and will not be reported."""
    trials = expectations(experiment, space)
    found = trial_findings(experiment, trials) or gate_findings(experiment, trials)
    return [finding.at(marks) for finding in found]


def _ignored(tuning: TuningSettings, space: Space, marks: Marks) -> list[Problem]:
    """What is searched, but not looked at by the workflow that trials run."""
    of = {"train": ("pruning", "distillation"), "prune": ("distillation",), "distill": ("pruning",)}
    found = []
    for path in dict.fromkeys(root.parameter.path for root in space.roots):
        head = path.partition(".")[0]
        if head in of.get(tuning.workflow, ()):
            workflow = {"pruning": "prune", "distillation": "distill"}[head]
            rule = f"trials run the workflow {tuning.workflow}, which does not look at {path}"
            found.append(Problem(marks.key((*_SPACE, path)), rule, f"set tuning.workflow: {workflow}"))
    return found


def _sections(experiment: Experiment, tuning: TuningSettings, marks: Marks) -> list[Problem]:
    needed = ["command"] if tuning.workflow == "command" else ["data", "model"]
    if tuning.workflow == "train" and experiment.model is not None and experiment.model.framework == "torch":
        needed.append("training")
    needed += {"prune": ["pruning"], "distill": ["training", "distillation"]}.get(tuning.workflow, [])
    pruning, model = experiment.pruning, experiment.model
    if tuning.workflow == "prune" and pruning is not None and model is not None:
        given = bool(model.is_trained) or pruning.start == "initial"
        searched = {path.partition(".")[0] for path in tuning.space}
        if not given and not searched & {"model", "training"} and not {"pruning", "pruning.start"} & {*tuning.space}:
            needed.append("training")  # else the model would be pruned untrained
    mark = marks.value(("tuning", "workflow")) if ("tuning", "workflow") in marks.values else marks.key(("tuning",))
    found = []
    for name in needed:
        if getattr(experiment, name) is None:
            remedy = f"add one, e.g. {EXAMPLES[name]}"
            if name != "command" and experiment.command is not None:
                remedy = "to search a script's parameters, set tuning.workflow: command"
            found.append(Problem(mark, f"the workflow {tuning.workflow} needs a {name} section", remedy))
    return found


def _searchable(experiment: Experiment, tuning: TuningSettings, marks: Marks) -> list[Problem]:
    """What a search over prunings or distillations cannot have."""
    found = []
    if experiment.seeds > 1:
        rule = "a search draws the seeds of its trials itself"
        found.append(Problem(marks.key(("seeds",)), rule, "leave out seeds, or run the file without tuning"))
    foreseen = outlook(experiment, tuning.workflow, searched=True)
    if foreseen is not None and not foreseen.judged("validation"):
        rule = "the validation split is empty, so a search has nothing to choose by"
        place = marks.value(("data", "splits", "validation"))
        found.append(Problem(place, rule, "set data.splits.validation (e.g. 0.2) or evaluation.cv (e.g. 5)"))
        return found
    what = {"prune": "pruning", "distill": "distillation"}.get(tuning.workflow)
    if what is None:
        return found
    if experiment.evaluation.cv is not None:
        rule = f"a {what} is judged on the validation split, not by cross-validation"
        found.append(Problem(marks.key(("evaluation", "cv")), rule, "leave out evaluation.cv"))
    if tuning.refit is not None:
        rule = f"the model of a {what} is not fitted again"
        found.append(Problem(marks.key(("tuning", "refit")), rule, "leave out tuning.refit"))
    if experiment.require_model().framework != "torch":
        rule = (
            f"the workflow {tuning.workflow} takes torch models, but the model is {experiment.require_model().name()}"
        )
        found.append(Problem(marks.value(("model",)), rule, "use another model"))
    return found


def _space_problem(error: SpaceError, above: Path, marks: Marks) -> Problem:
    path = (*above, *error.where)
    rule, _, remedy = error.message.partition("; ")
    name = f"{error.where[0]}: " if error.where and not rule.startswith(str(error.where[0])) else ""
    at_value = path in marks.values and not rule.startswith("unknown key")
    return Problem(marks.value(path) if at_value else marks.key(path), name + rule, remedy)


def _paths(experiment: Experiment, space: Space, marks: Marks) -> list[Problem]:
    """Does every path name something in the file? One below a choice is tried with the choice's branches, later."""
    document, found = experiment.document, []
    searched = {root.parameter.path for root in space.roots}
    for root in space.roots:
        path, mark = root.parameter.path, marks.key((*_SPACE, root.parameter.path))
        head = path.partition(".")[0]
        if head in _FIXED:
            rule = f"a search cannot change '{head}', which {_FIXED[head]}"
            found.append(Problem(mark, rule, f"remove {path} from tuning.space"))
            continue
        measured = measured_path(experiment, path)
        if measured is not None:
            found.append(Problem(mark, measured.message, measured.remedy))
            continue
        if any(path.startswith(other + ".") for other in searched):
            continue
        try:
            paths.put(document, path, None, TOP)
        except paths.PathError as error:
            without = {key: value for key, value in document.items() if key not in _FIXED}
            near = paths.nearest(path, without, TOP)
            message = f"the path '{path}' names nothing in this file: {error}"
            found.append(Problem(mark, message, f"did you mean '{near}'?" if near else ""))
    return found


def _corners(experiment: Experiment, space: Space, marks: Marks) -> list[Problem]:
    """Problems of settings that together show every branch and bound."""
    found: dict[Problem, None] = {}
    for setting in islice(space.corners(), CORNERS):
        try:
            trial = experiment.attempt(setting)
            wrong = [*metric_findings(trial), *measured_findings(experiment, trial, setting)]
        except Rejected as rejected:
            wrong = list(rejected.found)
        found |= dict.fromkeys(_blame(finding, setting, space, marks) for finding in wrong)
    return list(found)


def _blame(finding: Finding, setting: Mapping[str, Any], space: Space, marks: Marks) -> Problem:
    """The finding, at the place in tuning.space that the wrong value comes from."""
    where = paths.text(finding.path)
    above = [path for path in setting if where == path or where.startswith(path + ".")]
    below = [path for path in setting if path.startswith(where + ".")]
    if not above:
        values = ", ".join(f"{path} = {setting[path]!r}" for path in below or setting)
        message = f"{finding.message} (when {values})"
        place = _place(_node(below[0], setting, space), setting[below[0]]) if below else ()
        return Problem(marks.value((*_SPACE, *place)), message, finding.remedy)
    path = max(above, key=len)
    node, rest = _node(path, setting, space), finding.path[path.count(".") + 1 :]
    if not rest and finding.at_key:
        return _misplaced(node, finding, space, marks)
    place = (*_SPACE, *_place(node, setting[path]), *rest)
    return Problem((marks.key if finding.at_key else marks.value)(place), finding.message, finding.remedy)


def _misplaced(node: Node, finding: Finding, space: Space, marks: Marks) -> Problem:
    """A searched key that the chosen section does not have."""
    where, path, remedy = node.where, node.parameter.path, finding.remedy
    key = where[:-1] if len(where) > 1 and where[-1] in KINDS else where
    if node.parameter.condition is None and any(path.startswith(other + ".") for other in space.paths):
        remedy = "search it inside the branches that have it: choice: [{type: ..., key: {float: [...]}}]"
    return Problem(marks.key((*_SPACE, *key)), finding.message, remedy)


def _node(path: str, setting: Mapping[str, Any], space: Space) -> Node:
    active = {id(parameter) for parameter in space.active(setting)}
    nodes = [node for root in space.roots for node in root.walk()]
    return next(node for node in nodes if node.parameter.path == path and id(node.parameter) in active)


def _place(node: Node, value: Any) -> Path:
    """Where a value of the node's parameter is written, inside tuning.space."""
    parameter = node.parameter
    if isinstance(parameter, Choice):
        return (*node.where, parameter.index(value))
    if isinstance(parameter, Ordinal):
        return (*node.where, parameter.kind, parameter.index(value))
    if value not in parameter.ends:  # drawn, since with its bounds no rule was kept
        return (*node.where, parameter.kind)
    return (*node.where, parameter.kind, parameter.ends.index(value))


def _initial(experiment: Experiment, space: Space, marks: Marks) -> list[Problem]:
    tuning, found = experiment.require_tuning(), []
    for place, given in enumerate(tuning.initial):
        above: Path = ("tuning", "initial", place)
        for path in given:
            if path not in space.paths:
                remedy = did_you_mean(path, space.paths).strip() or f"searched: {', '.join(space.paths)}"
                found.append(Problem(marks.key((*above, path)), f"'{path}' is not searched in tuning.space", remedy))
        if found:
            continue
        try:
            setting = space.complete(given, experiment.value)
            broken = space.broken(setting)
            if broken is not None:
                rule = f"this setting breaks the rule '{broken}' of tuning.rules"
                found.append(Problem(marks.value(above), rule, "change a value, or the rule"))
                continue
            experiment.attempt(setting)
        except SpaceError as error:
            found.append(_space_problem(error, above, marks))
        except Rejected as rejected:
            found += [Problem(marks.value(above), item.message, item.remedy) for item in rejected.found]
    return found
