"""A program that goes with its parent, however that ends, and takes along all that it started (see supervisor.py)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PROGRAM = Path(__file__).with_name("supervisor.py")
_MORE = 3.0  # seconds beyond the program's own grace until its supervisor is not waited for any more


class Supervised:
    """Started at once, in a session of its own. `pid` is the program's, and its process group's.

    Raises OSError when there is no such program.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        grace: float,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """`grace`: seconds between SIGTERM and SIGKILL, when it is to end."""
        self._grace = grace
        self._status, theirs = os.pipe()
        try:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid()), str(theirs), str(grace), *argv],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                env=env,
                pass_fds=[*pass_fds, theirs],
                start_new_session=True,
            )
        except BaseException:
            self._forget_status()
            raise
        finally:
            os.close(theirs)
        self._told = b""
        self._code: int | None = None
        self.pid = self._started()

    def _started(self) -> int:
        while b"\n" not in self._told:
            part = os.read(self._status, 256)
            if not part:
                break
            self._told += part
        first, _, self._told = self._told.partition(b"\n")
        word, _, number = first.partition(b" ")
        if word == b"started":
            os.set_blocking(self._status, False)
            return int(number)
        self._supervisor.wait()
        self._forget_status()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        error = int(number or b"0")
        raise OSError(error, os.strerror(error) if error else "its supervisor could not be started")

    @property
    def family(self) -> int:
        """The process that all of the program's descend from."""
        return self._supervisor.pid

    @property
    def stdout(self) -> IO[bytes] | None:
        """What the program writes, where it was started with a pipe."""
        return self._supervisor.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        """The same of its standard error."""
        return self._supervisor.stderr

    def poll(self) -> int | None:
        """The program's exit code (negative: the signal that ended it); None while it runs."""
        if self._code is None:
            with contextlib.suppress(BlockingIOError):
                while part := os.read(self._status, 256):
                    self._told += part
                self._code = self._supervisor.wait()  # ended itself, and what it told may say more
            for line in self._told.splitlines():
                word, _, number = line.partition(b" ")
                if word == b"ended":
                    self._code = int(number)
        return self._code

    @property
    def returncode(self) -> int:
        """The exit code, after its end."""
        code = self.poll()
        return -signal.SIGKILL if code is None else code

    def terminate(self) -> None:
        """Ask for its end; returns at once. After `grace` seconds what is left is killed."""
        self._supervisor.terminate()

    def suspend(self) -> bool:
        """Stop it where it is, its memory kept; whether that was possible."""
        return self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `suspend`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> bool:
        try:
            os.killpg(self.pid, number)
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it and all it started; returns when nothing is left."""
        if self._supervisor.poll() is None:
            self._supervisor.terminate()
        self.wait()

    def wait(self) -> None:
        """Until nothing is left of one that was asked to end, or has ended."""
        self.poll()
        try:
            self._supervisor.wait(self._grace + _MORE)
        except subprocess.TimeoutExpired:
            for group in (self.pid, self._supervisor.pid):
                with contextlib.suppress(OSError):
                    os.killpg(group, signal.SIGKILL)
            self._supervisor.wait()
        self.poll()
        self._forget_status()

    def _forget_status(self) -> None:
        if self._status >= 0:
            os.close(self._status)
        self._status = -1

    def __del__(self) -> None:
        if hasattr(self, "_status"):
            self._forget_status()


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number for signals without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
