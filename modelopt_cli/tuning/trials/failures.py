"""How a trial failed, from the exception it ended with: the kind, and the reason in one line."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import SupportsFloat

from modelopt_cli.core.errors import FailureKind, ModeloptError, TrialError
from modelopt_cli.core.references import redacted
from modelopt_cli.tuning.trials.trial import Metrics

_LONGEST = 300  # characters of a reason


def classify(error: BaseException) -> tuple[FailureKind, str]:
    """(kind, reason). Out of memory is told by the class's name or the text: torch need not be there."""
    text = first_line(str(error))
    if isinstance(error, TrialError):
        return error.kind, text or error.kind
    if isinstance(error, ModeloptError):
        return "error", text
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:
        return "memory", f"out of memory: {text}" if text else "out of memory"
    frames = traceback.extract_tb(error.__traceback__)
    origin = f" ({frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno})" if frames else ""
    return "error", f"{name}: {text}{origin}" if text else f"{name}{origin}"


def first_line(text: str) -> str:
    """The first line of `text`, shortened, without values that came from the environment."""
    return (redacted(text).strip().splitlines() or [""])[0][:_LONGEST]


def plain_metrics(metrics: Mapping[str, SupportsFloat]) -> Metrics:
    """Metrics as Python floats (numpy and torch scalars are taken). Raises ValueError for what is no number."""
    floats: Metrics = {}
    for name, value in metrics.items():
        if isinstance(value, str | bytes):
            raise ValueError(f"the metric '{name}' is {value!r}, but must be a number")
        try:
            floats[str(name)] = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"the metric '{name}' is {value!r}, but must be a number") from None
        except OverflowError:
            raise ValueError(f"the metric '{name}' is a whole number beyond any float (1.8e308)") from None
    return floats
