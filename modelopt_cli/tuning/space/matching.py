"""Which of a parameter's values a value found in an experiment file (or given by hand) stands for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from modelopt_cli.tuning.space.parameters import Choice, Parameter, freeze


def own_value(parameter: Parameter, value: object, searched: Collection[str]) -> Any:
    """The parameter's own value that `value` stands for. Raises ValueError with the rule when it is none.

    A section stands for the branch whose fixed keys it all holds, for the one with most of them where several fit;
    what lies under a path in `searched` is left out of the comparison.
    """
    if not isinstance(parameter, Choice) or not isinstance(value, Mapping):
        return parameter.coerce(value)
    scores = [_match(own, value, parameter.path, searched) for own in parameter.values]
    if max(scores) < 0:
        raise ValueError(f"{value!r} is none of: {parameter.text()}")
    return parameter.value(scores.index(max(scores)))


def equal_but_for(own: object, value: object, path: str, searched: Collection[str]) -> bool:
    """Whether `value` holds all that `own`, at `path`, does, what is searched under it left out; 1 equals 1.0."""
    return _match(own, value, path, searched) >= 0


def _match(own: object, value: object, path: str, searched: Collection[str]) -> int:
    """How many fixed values of a branch the section holds; -1 when it differs in one."""
    if isinstance(own, Mapping):
        if not isinstance(value, Mapping):
            return -1
        pairs = {key: (mine, value.get(key)) for key, mine in own.items() if f"{path}.{key}" not in searched}
        missing = any(key not in value for key in pairs)
    elif isinstance(own, list):
        if not isinstance(value, list | tuple):
            return -1
        missing = len(own) != len(value)
        pairs = {i: pair for i, pair in enumerate(zip(own, value)) if f"{path}.{i}" not in searched}  # noqa: B905
    else:
        if isinstance(own, str) and isinstance(value, Mapping) and value.get("type") == own:
            return 1  # the name of a strategy stands for its section
        numbers = isinstance(own, int | float) and isinstance(value, int | float)
        equal = numbers and isinstance(own, bool) == isinstance(value, bool) and own == value
        return 1 if equal or freeze(own) == freeze(value) else -1
    scores = [_match(*pair, f"{path}.{key}", searched) for key, pair in pairs.items()]
    return -1 if missing or -1 in scores else sum(scores)


def lookup(value: object, rest: str) -> Any:
    """What lies at the dotted `rest` ('' or '.a.0') inside `value`. Raises KeyError."""
    for key in rest.split(".")[1:]:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise KeyError(key)
    return value


def holder_of(path: str, given: Mapping[str, Any]) -> str | None:
    """The longest path in `given`, `path` itself or one above it, whose value holds something at `path`."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        holder = ".".join(parts[:end])
        if holder in given:
            try:
                lookup(given[holder], path[len(holder) :])
            except KeyError:
                continue
            return holder
    return None
