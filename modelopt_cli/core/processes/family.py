"""What this process's user code starts or forks is killed with it, even when it is killed itself (see watcher.py)."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from modelopt_cli.core.processes.watcher import VARIABLE

_PROGRAM = Path(__file__).with_name("watcher.py")
_armed = False  # within `watched_family`
_watcher: subprocess.Popen[bytes] | None = None  # once there is code to be watched
_pipe: int | None = None  # where what is forked tells of itself


@contextlib.contextmanager
def watched_family() -> Iterator[None]:
    """What code that is not ours starts or forks meanwhile is killed when this process is.

    Where this process ends in another way, it cleans up itself; outside Linux nothing is watched.
    """
    global _armed
    if _armed or not sys.platform.startswith("linux"):
        yield
        return
    _armed = True
    try:
        yield
    finally:
        _armed = False
        _end()


def begin_watching() -> None:
    """Code that is not ours is about to run: watch it, within `watched_family`."""
    global _pipe, _watcher
    if not _armed or _watcher is not None:
        return
    mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    reader, _pipe = os.pipe()
    _watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid()), mark],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to our group is not meant for it
    )
    os.close(reader)
    os.set_blocking(_pipe, False)
    os.environ[VARIABLE] = mark  # after the watcher has its own, unmarked environment


def _end() -> None:
    global _pipe, _watcher
    if _watcher is None or _pipe is None:
        return
    os.environ.pop(VARIABLE, None)
    _watcher.kill()
    _watcher.wait()
    os.close(_pipe)
    _watcher = _pipe = None


def _tell() -> None:
    """In a process that was forked: its environment says nothing, since that is the one its parent was started with."""
    if _pipe is not None:
        with contextlib.suppress(OSError):
            os.write(_pipe, f"{os.getpid()}\n".encode())


os.register_at_fork(after_in_child=_tell)
