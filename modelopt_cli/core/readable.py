"""Values as people read them: numbers, sizes, durations, and the names of settings without the sections above them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def number(value: Any) -> str:
    """A cell's value as text: four significant digits, or whole from ten thousand on; sections by their type."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:,.0f}" if 10_000 <= abs(value) < 1e9 else f"{value:.4g}"
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


def plural(amount: float, word: str, words: str = "") -> str:
    """So many of something; `words` where the plural is not `word` and an s.

    >>> plural(1, "parameter"), plural(1200, "trial"), plural(0, "class", "classes")
    ('1 parameter', '1,200 trials', '0 classes')
    """
    return f"{amount:,.0f} {word if amount == 1 else words or word + 's'}"


def measure(name: str, value: float | None, *, digits: int = 0) -> str:
    """A metric's value by its unit, which the name ends with: seconds, bytes, whole things, or a figure; with `digits`
    a figure of so many significant ones, for sentences and differences.
    """
    if value is None:
        return "–"
    if name.endswith("seconds"):
        return duration(value)
    if name.endswith("_bytes"):
        return size(value)
    if digits:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    counted = name.startswith("model.") or name.endswith("epochs")
    whole = (float(value).is_integer() and (counted or abs(value) >= 10)) or (counted and abs(value) >= 1000)
    return f"{int(value):,}" if whole else figure(value)


def figure(value: float) -> str:
    """A metric's value with digits that stand below each other: 0.9130, 12.500, 1,204.5; tiny ones as 9.7e-05."""
    size_ = abs(value)
    if not math.isfinite(value) or size_ >= 1e9 or 0 < size_ < 0.0005:
        return f"{value:.3g}"
    return f"{value:,.{4 if size_ < 10 else 3 if size_ < 100 else 2 if size_ < 1000 else 1}f}"


def aligned(texts: Sequence[str], width: int = 0) -> list[str]:
    """Numbers below each other: padded to one width, at least `width`, with their decimal points in one column.

    >>> aligned(["0.5", "12", "–"])
    [' 0.5', '12  ', ' –  ']
    """
    parts = [text.partition(".") for text in texts]
    before, after = (max((len(part[at] + part[1] * (at // 2)) for part in parts), default=0) for at in (0, 2))
    joined = [f"{whole:>{before}}{point}{rest}".ljust(before + after) for whole, point, rest in parts]
    return [text.rjust(width) for text in joined]


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


def short_duration(seconds: float) -> str:
    """`4 ms`, `0.3 s`, `2 min 05 s`."""
    if seconds < 0.1:
        return f"{max(seconds * 1000, 0.1):.2g} ms"
    return f"{seconds:.2g} s" if seconds < 10 else duration(round(seconds)).replace(".0 ", " ")


def signed(metric: str, value: float, digits: int = 4) -> str:
    """A difference of a metric by its unit: +0.01, -59.3 kB, 0."""
    return "0" if value == 0 else ("-" if value < 0 else "+") + measure(metric, abs(value), digits=digits)


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
