"""Dotted paths into an experiment: `training.optimizer.lr`, `model.hidden.0`. Setting, reading, naming the nearest one.

In a mapping with free keys (tuning.space, command.parameters) the rest of a path is one key, unless the mapping
already holds a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from modelopt_cli.core.strategy import Strategy
from modelopt_cli.experiment.document.layout import FREE, Slot, default, keys, slot_in
from modelopt_cli.experiment.document.marks import Path


class PathError(ValueError):
    """A path that names nothing in the file's schema; the message says where it ends."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def put(document: Any, path: str, value: Any, top: Slot) -> tuple[Any, Path]:
    """(a copy of `document` with `value` at `path`, the path as keys and indices). What is not on the path is shared.

    Missing sections are created: from the default of their field, so that `training.optimizer.lr` goes into the
    default optimizer, and `model.hidden.0` into the default list. A shorthand `cosine` becomes {type: cosine}.
    Raises PathError.
    """
    parts = path.split(".")
    if not all(parts):
        raise PathError(f"'{path}' is no path; write names joined by dots, e.g. training.optimizer.lr")
    return _put(document, parts, value, top, ())


def _put(current: Any, parts: list[str], value: Any, slot: Slot, done: Path) -> tuple[Any, Path]:
    if not parts:
        return value, done
    current = _container(current, slot, done)
    if isinstance(current, list):
        place = _index(current, parts[0], done)
        inner, full = _put(current[place], parts[1:], value, slot.items or FREE, (*done, place))
        return [*current[:place], inner, *current[place + 1 :]], full
    section = slot.section(current)
    if section is None:
        key, rest, below = *_free_key(current, parts), FREE
    else:
        key, rest, below = parts[0], parts[1:], _slot_of(section, parts[0], done)
    child = current[key] if key in current else default(section, key) if section is not None else None
    inner, full = _put(child, rest, value, below, (*done, key))
    return {**current, key: inner}, full


def _container(current: Any, slot: Slot, done: Path) -> Any:
    """`current` as something that a path can go into."""
    if isinstance(current, Mapping | list):
        return current
    if isinstance(current, str) and slot.families:
        return {"type": current}
    if current is None and (slot.sections or slot.families or slot.free):
        return {}
    raise PathError(f"{text(done)} is {_shown(current)}, so nothing lies below it")


def _shown(value: Any) -> str:
    return "not set (null)" if value is None else f"the value {value!r}"


def _index(current: list[Any], part: str, done: Path) -> int:
    count = len(current)
    if part.isascii() and part.isdigit() and int(part) < count:
        return int(part)
    held = f"has {count} item{'s' if count != 1 else ''}" + (f" (0 to {count - 1})" if count else "")
    raise PathError(f"{text(done)} {held}, so there is no '{part}' in it")


def _free_key(current: Mapping[str, Any], parts: list[str]) -> tuple[str, list[str]]:
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in current:
            return ".".join(parts[:end]), parts[end:]
    return ".".join(parts), []


def _slot_of(section: type[BaseModel], key: str, done: Path) -> Slot:
    found = slot_in(section, key)
    if found is None:
        inside = f"{text(done)} ({section_name(section)})" if done and section_name(section) else text(done)
        raise PathError(
            f"there is no '{key}' in {inside or 'an experiment'}", f"known keys: {', '.join(keys(section))}"
        )
    return found


def section_name(section: type[BaseModel]) -> str:
    """The YAML name of a strategy's class, else an empty text."""
    return section.name() if issubclass(section, Strategy) else ""


def text(path: Path) -> str:
    """The dotted form."""
    return ".".join(map(str, path))


def get(values: Any, path: str) -> Any:
    """The value at `path` in plain nested values. Raises KeyError."""
    parts = path.split(".")
    while parts:
        if isinstance(values, Mapping):
            key, parts = _free_key(values, parts)
            if key not in values:
                raise KeyError(path)
            values = values[key]
        elif isinstance(values, list) and parts[0].isascii() and parts[0].isdigit() and int(parts[0]) < len(values):
            values, parts = values[int(parts[0])], parts[1:]
        else:
            raise KeyError(path)
    return values


def every(document: Any, slot: Slot, done: Path = ()) -> Iterator[str]:
    """Every path that names something, defaults and absent sections included."""
    if done:
        yield text(done)
    if isinstance(document, list):
        for place, item in enumerate(document):
            yield from every(item, slot.items or FREE, (*done, place))
        return
    section = slot.section(document)
    written = document if isinstance(document, Mapping) else {}
    known = keys(section) if section is not None else []
    for key in dict.fromkeys([*known, *written]):
        below = slot_in(section, key) if section is not None else FREE
        if below is not None:
            inner = written[key] if key in written else default(section, key) if section is not None else None
            yield from every(inner, below, (*done, key))


def nearest(path: str, document: Any, slot: Slot) -> str:
    """The existing path that looks most like `path`, or an empty text."""
    known = list(every(document, slot))
    near = get_close_matches(path, known, n=1, cutoff=0.6)
    if near:
        return near[0]
    last = path.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == last]
    return same[0] if same else ""


def section_at(path: Path, document: Any, top: Slot) -> type[BaseModel] | None:
    """The class of the section at `path`, as far as the document says it."""
    slot: Slot | None = top
    for part in path:
        if slot is None:
            return None
        section = slot.section(document)
        slot = slot.items if section is None else slot_in(section, str(part))
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            document = None
    return slot.section(document) if slot is not None else None


def as_written(resolved: Any, written: Any) -> Any:
    """`resolved` with the texts of `written` (paths are absolute in the former alone)."""
    if isinstance(resolved, dict) and isinstance(written, Mapping):
        return {key: as_written(value, written.get(key)) for key, value in resolved.items()}
    if isinstance(resolved, list) and isinstance(written, list) and len(resolved) == len(written):
        return [as_written(*pair) for pair in zip(resolved, written, strict=True)]
    return written if isinstance(resolved, str) and isinstance(written, str) else resolved
