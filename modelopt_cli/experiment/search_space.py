"""The search space of an experiment: `tuning.space` with `tuning.rules`; what these name beside it is the file's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.experiment.sections import Sections
from modelopt_cli.tuning.space.parameters import is_under
from modelopt_cli.tuning.space.rules import Rule, is_number
from modelopt_cli.tuning.space.space import Space, SpaceError

__all__ = ["search_space"]


def search_space(experiment: Sections) -> Space:
    """Raises SpaceError; where it is about a rule, `where` is ("rules", index), else a position in tuning.space."""
    tuning = experiment.require_tuning()
    space = Space.from_spec(tuning.space)
    if not tuning.rules:
        return space
    rules = []
    for index, text in enumerate(tuning.rules):
        rule = Rule.parse(text)
        problem = next(_unknown(rule, experiment, space), None)
        if problem is not None:
            raise SpaceError(problem, ("rules", index))
        rules.append(rule.fixed(lambda path: _fixed(path, experiment, space)))
    try:
        return space.ruled(rules)
    except SpaceError as error:
        raise SpaceError(error.message, ("rules", *error.where)) from None


def _fixed(path: str, experiment: Sections, space: Space) -> Any:
    """The file's value at a path that is not searched. Raises KeyError for one that is."""
    if space.names(path):
        raise KeyError(path)
    return experiment.value(path)


def _unknown(rule: Rule, experiment: Sections, space: Space) -> Iterator[str]:
    """What the rule names without there being a number: rule; remedy."""
    for path in rule.paths:
        if space.names(path):
            continue
        above = [own for own in space.paths if is_under(path, own)]
        if above:
            near = did_you_mean(path, space.paths).strip() or "write it in each branch that has it"
            yield f"'{rule}' names '{path}', but no value of {above[-1]} holds it; {near}"
            continue
        try:
            value = experiment.value(path)
        except KeyError:
            near = did_you_mean(path, space.paths).strip()
            if not near:
                nearest = experiment.nearest(path)
                near = f"did you mean '{nearest}'?" if nearest else f"searched: {', '.join(space.paths)}"
            yield f"'{rule}' names '{path}', which names nothing in this file; {near}"
            continue
        if not is_number(value):
            yield f"'{rule}' names '{path}', which is {value!r} in this file, and no number; name a number"
