"""A family of processes that goes with this one, even when it is killed (see watcher.py)."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from modelopt_cli.core.watcher import VARIABLE

_PROGRAM = Path(__file__).with_name("watcher.py")
_pipe: int | None = None  # where what is forked tells of itself


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """What is started or forked meanwhile, here or by what was started here, is killed when this process is.

    Where it ends in another way, it cleans up itself; outside Linux nothing is watched.
    """
    global _pipe
    if not sys.platform.startswith("linux") or _pipe is not None:
        yield
        return
    mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    reader, writer = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid()), mark],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to our group is not meant for it
    )
    os.close(reader)
    os.set_blocking(writer, False)
    os.environ[VARIABLE] = mark  # after the watcher has its own, unmarked environment
    _pipe = writer
    try:
        yield
    finally:
        _pipe = None
        os.environ.pop(VARIABLE, None)
        watcher.kill()
        watcher.wait()
        os.close(writer)


def _tell() -> None:
    """In a process that was forked: its environment says nothing, since that is the one its parent was started with."""
    if _pipe is not None:
        with contextlib.suppress(OSError):
            os.write(_pipe, f"{os.getpid()}\n".encode())


os.register_at_fork(after_in_child=_tell)
