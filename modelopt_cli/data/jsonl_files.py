"""JSON lines, an object a line: its keys are the columns, and cells have the types that JSON gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.columns import shown
from modelopt_cli.data.opening import check_text, open_text


def read_jsonl(path: Path) -> tuple[pd.DataFrame, list[int]]:
    """The file as a frame, and the line that each row stands in; a key that a line lacks is missing there.

    Raises InputError naming the line: no JSON, no object, a key that stands twice.
    """
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    try:
        with open_text(path, check_text(path, "utf-8")) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append(_object(line, f"'{path}', line {number}"))
                    lines.append(number)
    except UnicodeError as error:
        raise InputError(f"'{path}' is no UTF-8 text ({error}), as JSON must be; save it as UTF-8") from None
    if not rows:
        raise InputError(f"'{path}' is empty")
    return pd.DataFrame(rows), lines


def _object(line: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(line, object_pairs_hook=lambda pairs: _once(pairs, what))
    except (ValueError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise InputError(f"{what} is nested too deeply") from None
        raise InputError(f'{what} is no JSON ({error}); each line must be an object, e.g. {{"x": 1.5}}') from None
    if not isinstance(value, dict):
        raise InputError(f'{what} is {shown(line.strip())}, but each line must be an object, e.g. {{"x": 1.5}}')
    return value


def _once(pairs: list[tuple[str, Any]], what: str) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{what} has two values called {shown(twice)}; give each its own name")
    return record
