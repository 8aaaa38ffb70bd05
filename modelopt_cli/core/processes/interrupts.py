"""Ctrl-C of the user told apart from a KeyboardInterrupt that the user's code raises by itself."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_watchers = 0
_came = False


class Leave(BaseException):
    """This process is asked to end by the one that started it."""


def from_outside(error: BaseException) -> bool:
    """Whether `error` says that the user, or the parent process, wants an end; else it is a failure of the code."""
    return isinstance(error, Leave) or (isinstance(error, KeyboardInterrupt) and (_came or not _watchers))


@contextlib.contextmanager
def noting_interrupts() -> Iterator[None]:
    """Note each SIGINT, then let whoever handled it before handle it.

    Within, `from_outside` knows; outside, every KeyboardInterrupt is the user's.
    """
    global _watchers, _came
    before = signal.getsignal(signal.SIGINT)
    here = threading.current_thread() is threading.main_thread() and callable(before)  # else none can come here

    def handle(number: int, frame: FrameType | None) -> None:
        global _came
        _came = True
        assert callable(before)
        before(number, frame)

    if here:
        signal.signal(signal.SIGINT, handle)
    _came = _came and _watchers > 0
    _watchers += 1
    try:
        yield
    finally:
        _watchers -= 1
        if here and signal.getsignal(signal.SIGINT) is handle:  # else somebody has set another one since, which stays
            signal.signal(signal.SIGINT, before)
