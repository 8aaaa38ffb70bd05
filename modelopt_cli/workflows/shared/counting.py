"""What is counted deep inside (core/work.py), as events; and when work that goes on too long is given up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from modelopt_cli.core.work import GivenUp, listening
from modelopt_cli.workflows.shared.context import Context, Counted

PATIENCE = 4.0
"""Seconds after which a step does not go on, once the user has asked for an end: most end by themselves before."""
_OFTEN = 0.2  # seconds between events about one thing that is counted


@contextmanager
def counting(context: Context, patience: float = PATIENCE) -> Iterator[None]:
    """Within, what is counted is told as `Counted`. Raises GivenUp so many seconds after the user asked for an end."""
    said: dict[str, float] = {}  # what is counted -> when that was told

    def take(what: str, done: int, of: int | None) -> None:
        now = time.monotonic()
        if context.stop and now - context.stop.since >= patience:
            raise GivenUp
        if of is not None and done >= of:  # it is over: told where it was told before
            if said.pop(what, None) is None:
                return
        elif now - said.get(what, -_OFTEN) < _OFTEN:
            return
        else:
            said[what] = now
        context.emit(Counted(what, done, of))

    with listening(take):
        yield
