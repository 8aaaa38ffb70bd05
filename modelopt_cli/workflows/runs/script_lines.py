"""What a script writes, read as lines of bounded length, and which of them are metrics.

No line that a script can write may do harm: what is no metric by the rules below is ordinary output.
"""

from __future__ import annotations

import json
import math
import re
from typing import TypeGuard

LONGEST = 65_536
"""Bytes of a line of metrics; a longer one is ordinary output."""
LAST_STEP = 10**15
"""The highest step: below it every whole number is exact, also as a float."""
_LONGEST_NAME = 200  # characters of a metric's name

_ENDS = re.compile(rb"[\r\n]")  # a progress bar ends its lines with \r


class Lines:
    """Cuts bytes into lines. Of a line that is longer than LONGEST the beginning is kept, so that it can be told."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`, without their ends; empty ones are left out."""
        *whole, rest = _ENDS.split(data)
        lines = [self._ended(part) for part in whole]
        self._add(rest)
        return [line for line in lines if line]

    def last(self) -> list[bytes]:
        """What came after the last end of a line, when nothing more will come."""
        line = self._ended(b"")
        return [line] if line else []

    def _add(self, part: bytes) -> None:
        room = LONGEST + 1 - len(self._rest)
        self._rest += part[:room]

    def _ended(self, part: bytes) -> bytes:
        self._add(part)
        line, self._rest = self._rest, b""
        return line


def metrics_of(line: bytes) -> tuple[int | None, dict[str, float]] | None:
    """(step or None, metrics) of a line of metrics; None for ordinary output.

    A line of metrics is a JSON object in UTF-8 of at most LONGEST bytes, with a number beside `step`. A `step` that is
    infinite, no number (NaN) or beyond LAST_STEP makes it ordinary output; one that is no whole number is no step.
    """
    if len(line) > LONGEST or not line.lstrip().startswith(b"{"):
        return None
    try:
        content = json.loads(line.decode("utf-8", "replace"), parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    metrics = {name: float(value) for name, value in content.items() if name != "step" and _is_metric(name, value)}
    step = content.get("step")
    if not metrics:
        return None
    if not _is_number(step):
        return None, metrics
    if not math.isfinite(step) or abs(step) > LAST_STEP:
        return None
    return (int(step) if step == int(step) else None), metrics


def _whole(digits: str) -> int | float:
    """Whole numbers as JSON has them, of any length: those that no float holds are infinite, as 1e400 is."""
    return int(digits) if len(digits) < 19 else float(digits)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_metric(name: str, value: object) -> bool:
    """Names must be writable everywhere: half a surrogate pair, or control characters, are not."""
    return _is_number(value) and len(name) <= _LONGEST_NAME and name.isprintable()
