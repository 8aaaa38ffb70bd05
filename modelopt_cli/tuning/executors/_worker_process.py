"""One worker process as its parent sees it: the pipe to it, the trial it has, and how long that has computed."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Pipe

import psutil

from modelopt_cli.core.processes.supervised import Supervised, signal_name
from modelopt_cli.tuning.executors import Event

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_START_SECONDS = 120.0  # a worker that is not ready by then hangs


class WorkerProcess:
    """Started at once, in a process group of its own: Ctrl-C reaches the parent only, which decides what it means."""

    def __init__(
        self, threads: int, grace: float, environment: Mapping[str, str] | None = None, output: int | None = None
    ) -> None:
        """`grace`: seconds between SIGTERM and SIGKILL when it is to end. `environment`: beside this process's own.

        `output`: the descriptor where what its trials print goes; None: our standard error, since it must not mix with
        the report on standard output.
        """
        self.connection, theirs = Pipe()
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), **(environment or {})}
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self.process = Supervised(
                [sys.executable, "-m", "modelopt_cli.tuning.executors._worker", str(theirs.fileno())],
                grace=grace,
                stdout=2 if output is None else output,
                stderr=output,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        self.gpu = ""  # what it sees of the GPUs; empty: all
        self.trial: int | None = None
        self.waits = False  # its trial waits for a decision
        self.suspended = False  # its trial is paused, and has no state but itself
        self._ready = False
        self._since = time.monotonic()  # when it was started, became ready, or began to compute
        self._used = 0.0  # seconds that its trial computed before that
        self._reported = 0.0  # ... of which it told itself

    def send(self, message: object) -> None:
        """Send, if it is there still: that a worker has died is found out when it is heard."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def begin(self, trial: int) -> None:
        """It gets a trial, whose clock starts at zero."""
        self.trial, self.waits, self._used, self._reported = trial, False, 0.0, 0.0
        if self._ready:
            self._since = time.monotonic()

    def go_on(self, message: object) -> None:
        """Its trial, which waits, computes again."""
        self.waits, self.suspended, self._since = False, False, time.monotonic()
        self.send(message)

    def is_ready(self) -> None:
        """It has read the objective: from here on the time is its trial's."""
        self._ready, self._since = True, time.monotonic()

    def note(self, event: Event) -> None:
        """Keep up with what its trial does."""
        self._reported += event.seconds
        self.waits = event.waits
        if event.waits:
            self._used += time.monotonic() - self._since
        if event.done:
            self.trial = None

    def seconds(self) -> float:
        """How long its trial has computed; infinite for a worker that does not get ready."""
        now = time.monotonic() - self._since
        if not self._ready:
            return math.inf if now > _START_SECONDS else 0.0
        return self._used + now

    def unreported(self) -> float:
        """Seconds of its trial that no event has told of."""
        return max(0.0, self.seconds() - self._reported) if self._ready else 0.0

    def end(self) -> None:
        """End it and all it started: SIGTERM, and SIGKILL for what is left when it has ended, or after the grace."""
        self.process.end()
        self.connection.close()

    def how_it_ended(self) -> str:
        """In words, after `end`."""
        code = self.process.returncode
        when = "" if self._ready else " before it began (see the messages above)"
        if code < 0:
            return f"its worker process was killed by {signal_name(-code)}{when}"
        return f"its worker process ended with exit code {code}{when}"


def resident_bytes(pid: int, *, alone: bool = False) -> int:
    """Memory of a process, and (not `alone`) of all it started; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process] if alone else [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_resident(each) for each in family)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
