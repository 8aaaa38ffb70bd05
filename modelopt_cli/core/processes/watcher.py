"""A small program that outlives a command that was killed, and takes away what its user's code left behind.

    python -I -S watcher.py PARENT MARK < PIPE

Code of the user's that runs in the command's own process (a model, a data function, a metric) may start processes that
leave its session (daemons). When the parent has gone without ending this program, they are killed: those that were
forked, whose numbers come through the pipe, and those that carry MARK in the environment that they were started with.
Linux alone tells other processes' environments.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

VARIABLE = "MODELOPT_FAMILY"
_LOOK = 0.5  # seconds between looks at the parent
_PATIENCE = 3.0  # seconds of killing: what is killed may have started others just before


def main(parent: int, mark: str) -> None:
    """Wait for the parent's end, then leave nothing of its family."""
    forked: dict[int, bytes] = {}  # number -> when it started: numbers are used again
    while os.getppid() == parent:
        _hear(forked, _LOOK)
    _hear(forked, 0.0)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        left = [number for number, started in forked.items() if started and _started(number) == started]
        left += family(mark)
        for number in left:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.05)


def _hear(forked: dict[int, bytes], seconds: float) -> None:
    """Note the processes that tell of themselves: a line each."""
    if not select.select([0], [], [], seconds)[0]:
        return
    lines = os.read(0, 65536)
    if not lines:  # nobody is left who could tell
        time.sleep(seconds)
    for number in lines.split():
        forked[int(number)] = _started(int(number))


def family(mark: str) -> list[int]:
    """Other processes that were started with the mark in their environment."""
    wanted, members = f"{VARIABLE}={mark}".encode(), []
    with contextlib.suppress(OSError):
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  (pathlib imports slowly)
        for number in numbers:
            if number != os.getpid() and wanted in _read(number, "environ").split(b"\0"):
                members.append(number)
    return members


def _started(number: int) -> bytes:
    """When a process started; empty for one that has ended."""
    fields = _read(number, "stat").rpartition(b")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] != b"Z" else b""


def _read(number: int, name: str) -> bytes:
    """A file of /proc; empty for a process of another user's, or one that has gone."""
    with contextlib.suppress(OSError), open(f"/proc/{number}/{name}", "rb") as stream:  # noqa: PTH123
        return stream.read()
    return b""


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
