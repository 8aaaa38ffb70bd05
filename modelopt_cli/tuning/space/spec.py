"""Reading a search space as it is written in the experiment file: path -> spec, to a list of parameters.

{float: [1.0e-4, 1.0], log: true}      a number; step: 0.1 restricts it, count: 5 says how many points a grid takes
{int: [16, 256], log: true}
[16, 32, 64]                           a choice of plain values
{choice: [{type: sgd, momentum: {float: [0.0, 0.99]}}, {type: adamw}]}     of values or sections; nests
{ordinal: [small, medium, large]}

Beside any of these: prior: a value believed to be good (of a section, its type), confidence: 0.8, between 0 and 1.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.tuning.space.parameters import Choice, Float, Integer, Ordinal, Parameter, Prior, freeze
from modelopt_cli.tuning.space.tree import Node, SpaceError, Where

KINDS = ("float", "int", "choice", "ordinal")
_PRIOR = ("prior", "confidence")
_RANGE = ("log", "step", "count", *_PRIOR)
_OPTIONS = {"float": _RANGE, "int": _RANGE, "choice": _PRIOR, "ordinal": _PRIOR}
_FORMS = "{float: [low, high]}, {int: [low, high]}, {choice: [...]}, {ordinal: [...]} or a list of values"
_CONFIDENCE = 0.8
_LARGEST_INTEGER = 2**64 - 1  # seeds have at most 64 bits
_MOST_STEPS = 2**40  # of a float: beyond it, its code in [0, 1] no longer gives the value back exactly


def parse(spec: object) -> tuple[Node, ...]:
    """The tree of parameters. Raises SpaceError."""
    if not isinstance(spec, Mapping):
        raise SpaceError(f"{spec!r} is no search space; write a mapping of dotted paths to {_FORMS}")
    if not spec:
        raise SpaceError("the search space is empty; name at least one path, e.g. training.optimizer.lr")
    for path in spec:
        if not isinstance(path, str) or not all(path.split(".")):
            raise SpaceError(f"{path!r} is no dotted path; write e.g. training.optimizer.lr", (str(path),))
    nodes = tuple(_node(str(path), item, (str(path),), None) for path, item in spec.items())
    _refuse_twice(nodes)
    return nodes


def _refuse_twice(nodes: Sequence[Node]) -> None:
    """Branches of one choice exclude each other and may name the same path; parameters that count together may not."""

    def claim(nodes: Sequence[Node], taken: dict[str, Where]) -> dict[str, Where]:
        own: dict[str, Where] = {}
        for node in nodes:
            for path, where in [(node.parameter.path, node.where), *below(node)]:
                if path in own or path in taken:
                    raise SpaceError(f"'{path}' is searched twice; remove one of the two", where)
                own[path] = where
        return own

    def below(node: Node) -> list[tuple[str, Where]]:
        union: dict[str, Where] = {}
        for branch in node.branches:
            union |= claim(branch, {node.parameter.path: node.where})
        return list(union.items())

    claim(nodes, {})


def _node(path: str, spec: object, where: Where, condition: tuple[str, int] | None) -> Node:
    if isinstance(spec, list | tuple):
        for index, item in enumerate(spec):
            if isinstance(item, Mapping):
                raise SpaceError(
                    f"{dict(item)!r} stands in a plain list of values; write {{choice: [...]}} to choose sections",
                    (*where, index),
                )
        return _choice(path, spec, where, condition)
    if not isinstance(spec, Mapping):
        raise SpaceError(f"{spec!r} says nothing to search; write {_FORMS}", where)
    kind = _kind(spec, where)
    position = (*where, kind)
    if kind == "choice":
        return _with_prior(_choice(path, _items(spec[kind], kind, position), position, condition), spec)
    if kind == "ordinal":
        items = [_plain(item, (*position, i)) for i, item in enumerate(_items(spec[kind], kind, position))]
        _refuse_equal(items, position)
        return _with_prior(Node(Ordinal(path, tuple(items), condition=condition), where), spec)
    return _with_prior(Node(_range(path, kind, spec, where, condition), where), spec)


def _with_prior(node: Node, spec: Mapping[str, object]) -> Node:
    """The node with what the spec says of a prior belief."""
    try:
        prior = _prior(node.parameter, spec)
    except ValueError as error:
        raise SpaceError(str(error), node.where) from None
    return node if prior is None else replace(node, parameter=replace(node.parameter, prior=prior))


def _prior(parameter: Parameter, spec: Mapping[str, object]) -> Prior | None:
    """None when the spec names no prior. Raises ValueError with the rule."""
    confidence = spec.get("confidence", _CONFIDENCE)
    if "prior" not in spec:
        if "confidence" in spec:
            raise ValueError("confidence stands without a prior; name the value that is believed to be good")
        return None
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}, but must lie between 0 and 1, both left out; write e.g. 0.8")
    try:
        return Prior(_prior_value(parameter, spec["prior"]), float(confidence))
    except ValueError as error:
        raise ValueError(f"prior: {error}; name a value of the space") from None


def _prior_value(parameter: Parameter, value: object) -> Any:
    """The parameter's own value; a text also stands for the one section of that type."""
    if isinstance(parameter, Choice) and isinstance(value, str):
        named = [own for own in parameter.values if isinstance(own, Mapping) and own.get("type") == value]
        if len(named) == 1:
            return named[0]
        if named:
            raise ValueError(f"'{value}' is the type of {len(named)} sections; write the fixed part of one")
    return parameter.coerce(value)


def _kind(spec: Mapping[str, object], where: Where) -> str:
    kinds = [key for key in KINDS if key in spec]
    if len(kinds) > 1:
        raise SpaceError(f"'{kinds[0]}' and '{kinds[1]}' exclude each other; keep one", (*where, kinds[1]))
    allowed = (kinds[0], *_OPTIONS[kinds[0]]) if kinds else (*KINDS, *_RANGE)
    for key in spec:
        if key not in allowed:
            raise SpaceError(
                f"unknown key '{key}'; allowed: {', '.join(allowed)}.{did_you_mean(str(key), allowed)}", (*where, key)
            )
    if not kinds:
        raise SpaceError(f"{dict(spec)!r} names no kind; write {_FORMS}", where)
    return kinds[0]


def _items(value: object, kind: str, where: Where) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise SpaceError(f"{kind} takes a list of values, not {value!r}", where)
    return value


def _refuse_equal(values: Sequence[Any], where: Where) -> None:
    if not values:
        raise SpaceError("nothing to choose from; list at least one value", where)
    seen: dict[Any, int] = {}
    for index, value in enumerate(values):
        first = seen.setdefault(freeze(value), index)
        if first != index:
            same = "two branches have the same fixed part" if isinstance(value, dict) else "a value stands twice"
            hint = "; give one of them a key that tells them apart" if isinstance(value, dict) else "; remove one"
            raise SpaceError(f"{same}: {value!r} (numbers {first + 1} and {index + 1}){hint}", (*where, index))


def _choice(path: str, items: Sequence[Any], where: Where, condition: tuple[str, int] | None) -> Node:
    values: list[Any] = []
    branches: list[tuple[Node, ...]] = []
    for index, item in enumerate(items):
        children: list[Node] = []
        values.append(_fixed(path, item, (*where, index), (path, index), children))
        branches.append(tuple(children))
    _refuse_equal(values, where)
    return Node(Choice(path, tuple(values), condition=condition), where, tuple(branches))


def _fixed(path: str, item: object, where: Where, condition: tuple[str, int], children: list[Node]) -> Any:
    """What a branch holds besides its own specs, which go to `children`. A spec in a list leaves its first value."""
    if isinstance(item, Mapping):
        kept: dict[str, Any] = {}
        for key, value in item.items():
            if not isinstance(key, str):
                raise SpaceError(f"the key {key!r} is no text; quote it", where)
            before = len(children)
            if isinstance(value, Mapping) and any(kind in value for kind in KINDS):
                children.append(_node(f"{path}.{key}", value, (*where, key), condition))
            else:
                kept[key] = _fixed(f"{path}.{key}", value, (*where, key), condition, children)
            if len(children) > before and "." in key:
                raise SpaceError(
                    f"the key '{key}' holds a dot, so no path reaches what is searched in it", (*where, key)
                )
        return kept
    if isinstance(item, list | tuple):
        kept_items: list[Any] = []
        for index, value in enumerate(item):
            if isinstance(value, Mapping) and any(kind in value for kind in KINDS):
                children.append(_node(f"{path}.{index}", value, (*where, index), condition))
                kept_items.append(children[-1].parameter.ends[0])
            else:
                kept_items.append(_fixed(f"{path}.{index}", value, (*where, index), condition, children))
        return kept_items
    return _plain(item, where)


def _plain(value: object, where: Where) -> Any:
    """`value` as built of None, bool, int, float, str, list and dict only. Raises SpaceError."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item, (*where, index)) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, (*where, key)) for key, item in value.items()}
    raise SpaceError(f"{value!r} is no plain value; use numbers, text, true, false, null, lists or mappings", where)


def _range(
    path: str, kind: str, spec: Mapping[str, object], where: Where, condition: tuple[str, int] | None
) -> Float | Integer:
    bounds = spec[kind]
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise SpaceError(f"{kind} takes two numbers, [low, high], not {bounds!r}", (*where, kind))
    low, high = (_bound(bound, kind, (*where, kind, index)) for index, bound in enumerate(bounds))
    log, step, count = _flag(spec, where), _step(spec, kind, where), _count(spec, where)
    if low > high:
        raise SpaceError(f"low {low!r} is above high {high!r}; write [{high!r}, {low!r}]", (*where, kind))
    if log and low <= 0:
        rule = "a log axis needs low > 0"
        raise SpaceError(f"low is {low!r}, but {rule}; raise it, or leave out log", (*where, kind, 0))
    if log and step is not None:
        raise SpaceError("log and step exclude each other; leave out one", (*where, "step"))
    if not math.isfinite(high - low) or (step is not None and kind == "float" and (high - low) / step > _MOST_STEPS):
        raise SpaceError(f"[{low!r}, {high!r}] is too wide to search; narrow it, or take a larger step", (*where, kind))
    if kind == "int":
        return Integer(path, int(low), int(high), log, None if step is None else int(step), count, condition=condition)
    return Float(path, float(low), float(high), log, None if step is None else float(step), count, condition=condition)


def _bound(value: object, kind: str, where: Where) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise SpaceError(f"{value!r} is no number; {kind} takes [low, high]", where)
    try:
        as_float = float(value)
    except OverflowError:
        as_float = math.inf
    if not math.isfinite(as_float):
        raise SpaceError(f"a bound must be finite, not {as_float!r}", where)
    if kind == "float":
        return as_float
    if not isinstance(value, numbers.Integral):
        raise SpaceError(f"{value!r} is no whole number; write an integer, or use float", where)
    if abs(int(value)) > _LARGEST_INTEGER:
        raise SpaceError(f"{value!r} is beyond integers of 64 bits (2**64 - 1); narrow it", where)
    return int(value)


def _flag(spec: Mapping[str, object], where: Where) -> bool:
    log = spec.get("log", False)
    if not isinstance(log, bool):
        raise SpaceError(f"log is {log!r}, but must be true or false", (*where, "log"))
    return log


def _step(spec: Mapping[str, object], kind: str, where: Where) -> float | None:
    step = spec.get("step")
    if step is None:
        return None
    step = _bound(step, kind, (*where, "step"))
    if step <= 0:
        raise SpaceError(f"step is {step!r}, but must be above 0", (*where, "step"))
    return step


def _count(spec: Mapping[str, object], where: Where) -> int | None:
    count = spec.get("count")
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, numbers.Integral) or not 1 <= int(count) <= _LARGEST_INTEGER:
        raise SpaceError(f"count is {count!r}, but must be a whole number, at least 1", (*where, "count"))
    return int(count)
