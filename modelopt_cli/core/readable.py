"""Values as people read them: numbers, sizes, durations, and the names of settings without the sections above them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any


def number(value: Any) -> str:
    """A cell's value as text: four significant digits; sections by their type."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and isinstance(value.get("type"), str) and len(value) == 1:
        return str(value["type"])
    return str(value)


def cell(value: Any) -> str:
    """A cell of a report's table: sections stand there as JSON; those that are only a type are shown by it."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return number(json.loads(value))
        except ValueError:
            return value
    return number(value)


def count(value: float) -> str:
    """A number of things, whole thousands apart; below 1000 as `number` has it."""
    return f"{value:,.0f}" if value >= 1000 else number(float(value))


def size(bytes_: float | None) -> str:
    """Bytes as text, in powers of 1000."""
    if bytes_ is None:
        return "unknown"
    for unit in ("B", "kB", "MB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} {unit}" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} GB"


def duration(seconds: float | None) -> str:
    """Seconds as text."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def measured(metric: str, value: float | None, digits: int = 4) -> str:
    """A metric's value in the unit that its name ends with."""
    if value is None:
        return "–"
    if metric.endswith("_bytes"):
        return size(value)
    if metric.endswith("seconds"):
        return duration(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def signed(metric: str, value: float, digits: int = 4) -> str:
    """The same of a difference: +0.01, -59.3 kB, 0."""
    return "0" if value == 0 else ("-" if value < 0 else "+") + measured(metric, abs(value), digits)


def short(path: str, paths: Collection[str] = ()) -> str:
    """The last names of a setting's path: as many as none of the other `paths` ends with; a place in a list is never
    the first of them.

    >>> short("training.optimizer.lr"), short("model.hidden.0")
    ('lr', 'hidden.0')
    >>> short("training.optimizer.lr", ["training.optimizer.lr", "pruning.recovery.optimizer.lr"])
    'training.optimizer.lr'
    """
    names = path.split(".")
    for first in range(len(names) - 1, 0, -1):
        tail = ".".join(names[first:])
        shared = any(other != path and f".{other}".endswith(f".{tail}") for other in paths)
        if not shared and not names[first].isdigit():
            return tail
    return path
