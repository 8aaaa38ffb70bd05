"""Waiting for what another process or thread does: for the event itself, never for time to pass.

A machine that runs the tests may stand still for seconds at any line, and its processes run in any order. So a test
waits until a condition holds; the deadline is only for what would never happen. What a test lets hang lasts longer than
that (FOREVER), so that nothing ends by itself in time. Where the product goes by the clock, the test turns the clock.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 240.0
"""Seconds, after which what is waited for will not happen."""
FOREVER = 3000
"""Seconds that what hangs would take."""


def until(condition: Callable[[], object], what: str, process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until the condition holds. Fails when `process` has ended without that, or after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            pytest.fail(f"the process has ended with {process.returncode}, not yet: {what}: {process.communicate()}")
        if time.monotonic() > deadline:
            pytest.fail(f"never: {what}")
        time.sleep(0.02)


def runs(process: int) -> bool:
    """Whether a process of this number is there, and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until_ended(processes: Collection[int]) -> None:
    """Wait until none of them runs. They are killed where they do not end by themselves, and the test fails."""
    try:
        until(lambda: not any(map(runs, processes)), "that the processes end")
    finally:
        for process in filter(runs, processes):
            os.kill(process, 9)


class TurnedClock:
    """Stands for the module `time` in a module of the product: its clock jumps by an hour once a condition holds."""

    def __init__(self, condition: Callable[[], object]) -> None:
        self._condition, self.jumped = condition, False

    def monotonic(self) -> float:
        """Seconds."""
        self.jumped = self.jumped or bool(self._condition())
        return time.monotonic() + 3600.0 * self.jumped
