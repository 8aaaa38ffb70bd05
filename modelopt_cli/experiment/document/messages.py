"""From pydantic's errors to messages for people: where, what was expected, what stands there, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelopt_cli.core.scalars import number_in
from modelopt_cli.experiment.document.document import Document, section_name, text
from modelopt_cli.experiment.document.layout import keys
from modelopt_cli.experiment.document.marks import Finding, Path

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


@dataclass(frozen=True)
class _Located:
    """A pydantic error with the path that it is about; `union`: where alternatives begin that it is one of, if any."""

    error: ErrorDetails
    path: Path
    union: Path | None


def findings(error: ValidationError, document: Document) -> list[Finding]:
    """What is wrong with `document`; alternatives of one value are told as one finding."""
    located = [_locate(item, document.values) for item in error.errors(include_url=False)]
    alternatives: dict[Path, list[_Located]] = {}
    mistakes: list[Finding] = []
    for item in located:
        if item.union is None:
            mistakes.append(_finding(item, document))
        else:
            alternatives.setdefault(item.union, []).append(item)
    for union, members in alternatives.items():
        mistakes += _best(union, members, document)
    return mistakes


def _locate(error: ErrorDetails, values: Any) -> _Located:
    """Follow the error's location through the values; what is no key there names an alternative of a union."""
    path: Path = ()
    union: Path | None = None
    current = values
    location = error["loc"]
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if _holds(current, part):
            current, path = current[part], (*path, part)
        elif last and error["type"] == "missing":
            path = (*path, part)
        elif isinstance(part, str) and union is None:
            union = path
    return _Located(error, path, union)


def _holds(current: Any, part: str | int) -> bool:
    if isinstance(current, list):
        return isinstance(part, int) and part < len(current)
    return isinstance(current, Mapping) and part in current


def _best(union: Path, members: Sequence[_Located], document: Document) -> list[Finding]:
    """The findings of the alternative that was meant: the deepest; else the one of the right type; else all in one."""
    deepest = max(len(member.path) for member in members)
    if deepest > len(union):
        return [_finding(member, document) for member in members if len(member.path) == deepest]
    other = [member for member in members if _expectation(member.error) is None]
    if other:
        return [_finding(other[0], document)]
    nouns = list(dict.fromkeys(str(_expectation(member.error)) for member in members))
    return [_expected(union, " or ".join(nouns), members[0].error["input"], _least_items(union, document))]


def _expectation(error: ErrorDetails) -> str | None:
    """What was expected, when the error says no more than that."""
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"]).replace("'", "")
    return _EXPECTED.get(error["type"])


def _finding(located: _Located, document: Document) -> Finding:
    error, path = located.error, located.path
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, document)
    if kind == "missing":
        return _missing(path, document)
    if kind == "literal_error":
        return _not_listed(path, str(context["expected"]), error["input"])
    if kind in _EXPECTED:
        return _expected(path, _EXPECTED[kind], error["input"], _least_items(path, document))
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return Finding(path, f"{_name(path)} must be {words} {context[name]:g}, but is {error['input']:g}")
    if kind == "finite_number":
        return Finding(path, f"{_name(path)} must be a finite number, but is {error['input']}")
    if kind in ("too_short", "too_long", "string_too_short"):
        return _length(path, kind, context, error["input"])
    if kind == "strategy_unknown" and isinstance(error["input"], Mapping):
        path = (*path, "type")
    return _parted(path, str(context["error"]) if kind == "value_error" else error["msg"])


def _name(path: Path) -> str:
    return text(path) or "the experiment"


def _parted(path: Path, message: str) -> Finding:
    """A message of a strategy's own; the list of known names goes to a line of its own."""
    message, _, known = message.partition(" Known: ")
    if path and message.startswith(f"{path[-1]} "):
        message = text(path[:-1]) + ("." if path[:-1] else "") + message
    where = "" if text(path) in message or not path else f"{text(path).removesuffix('.type')}: "
    return Finding(path, where + message, f"known: {known}" if known else "")


def describe(value: Any) -> str:
    """A value as a person would say it: the text '0.1', the number 5, a list, nothing (null)."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 60 else value[:57] + '...'}'"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "a section"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def _least_items(path: Path, document: Document) -> int:
    """How many items a list at `path` needs at least; 1 where it does not say."""
    section = document.section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section is not None and path else None
    return 1 if field is None else max([1, *_lengths(field.annotation), *_lengths(field)])


def _lengths(annotation: Any) -> Iterator[int]:
    for item in getattr(annotation, "metadata", ()) or getattr(annotation, "__metadata__", ()):
        if isinstance(getattr(item, "min_length", None), int):
            yield item.min_length
        yield from _lengths(item)
    for argument in get_args(annotation):
        yield from _lengths(argument)


def _expected(path: Path, noun: str, value: Any, least: int = 1) -> Finding:
    remedy = ""
    if isinstance(value, str) and "number" in noun and number_in(value):
        remedy = f"write {number_in(value)}, without quotes" if number_in(value) == value.strip() else ""
        remedy = remedy or f"write {number_in(value)} (YAML 1.2 has no digit groups)"
    elif isinstance(value, str) and noun == "true or false" and value.lower() in ("yes", "no", "on", "off"):
        remedy = f"write {'true' if value.lower() in ('yes', 'on') else 'false'} (in YAML 1.2, {value} is text)"
    elif noun == "text" and isinstance(value, int | float):
        remedy = f"quote it: '{str(value).lower() if isinstance(value, bool) else value}'"
    elif noun == "a list" and isinstance(value, str | int | float):
        item = f"'{value}'" if isinstance(value, str) else str(value)
        remedy = f"write [{', '.join([item] * least)}]"
    return Finding(path, f"{_name(path)}: expected {noun}, got {describe(value)}", remedy)


def _not_listed(path: Path, expected: str, value: Any) -> Finding:
    names = re.findall(r"'([^']*)'", expected) or [expected]
    near = get_close_matches(value, names, n=1) if isinstance(value, str) else []
    allowed = names[0] if len(names) == 1 else f"one of: {', '.join(names)}"
    return Finding(
        path, f"{_name(path)} must be {allowed}; got {describe(value)}", f"did you mean '{near[0]}'?" if near else ""
    )


def _length(path: Path, kind: str, context: Mapping[str, Any], value: Any) -> Finding:
    if kind == "string_too_short":
        return Finding(path, f"{_name(path)} must not be empty")
    words, name = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
    count = context[name]
    return Finding(path, f"{_name(path)} needs {words} {count} item{'s' if count != 1 else ''}, but has {len(value)}")


def _unknown_key(path: Path, document: Document) -> Finding:
    section = document.section_at(path[:-1])
    inside = text(path[:-1]) or "an experiment"
    if section is None:
        return Finding(path, f"unknown key '{path[-1]}' in {inside}", at_key=True)
    kind = f" ({section_name(section)})" if section_name(section) else ""
    near = near_key(str(path[-1]), section)
    hint = f"did you mean '{near}'? " if near else ""
    remedy = f"{hint}known keys: {', '.join(keys(section))}"
    return Finding(path, f"unknown key '{path[-1]}' in {inside}{kind}", remedy, at_key=True)


def near_key(word: str, section: type[BaseModel]) -> str | None:
    """The key that `word` probably means: by its spelling, or by the first words of its description."""
    names = {name: name for name in section.model_fields}
    for name, field in section.model_fields.items():
        start = re.split(r"[.,:;(]", field.description or "")[0].lower().split()
        for count in (2, 3):
            names.setdefault("_".join(start[:count]), name)
    near = get_close_matches(word.lower(), list(names), n=1, cutoff=0.6)
    return names[near[0]] if near else None


def _missing(path: Path, document: Document) -> Finding:
    section = document.section_at(path[:-1])
    field = section.model_fields.get(str(path[-1])) if section is not None else None
    inside = text(path[:-1]) or "the experiment"
    remedy = f"add {path[-1]}: ... ({field.description.rstrip('.')})" if field and field.description else ""
    return Finding(path[:-1], f"{inside} lacks the key '{path[-1]}'", remedy, at_key=True)
