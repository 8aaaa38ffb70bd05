"""A pool of worker processes, started once and reused. What one trial does to its process is that trial's failure."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import TYPE_CHECKING, Any

import psutil

from modelopt_cli.core.errors import FailureKind, UsageError
from modelopt_cli.tuning.executors import Event, Limits, Pool

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective
    from modelopt_cli.tuning.trial import Trial

_GRACE = 3.0  # seconds between SIGTERM and SIGKILL
_LOOK = 0.2  # seconds between looks at the workers' memory
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(eq=False)
class _Worker:
    """A process, the pipe to it, and the trial it has."""

    process: subprocess.Popen[bytes]
    connection: Connection
    trial: int | None = None
    since: float = 0.0  # when it began to compute
    used: float = 0.0  # seconds computed on this trial before that
    waits: bool = False  # its trial waits for a decision
    answered: bool = field(default=False)


class ProcessPool(Pool):
    """See the module docstring. `workers` processes share the machine's cores."""

    def __init__(self, objective: Objective, workers: int, limits: Limits) -> None:
        try:
            self._greeting = (list(sys.path), pickle.dumps(objective))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(f"the objective cannot be sent to worker processes ({error}); use executor: serial") from None
        self.slots, self._limits = workers, limits
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._workers: list[_Worker] = []
        self._states: dict[int, Any] = {}  # of paused trials
        self._events: deque[Event] = deque()
        self._looked = 0.0

    def start(self, trial: Trial, until: int | None) -> None:
        worker = next((worker for worker in self._workers if worker.trial is None), None) or self._hire()
        worker.trial, worker.since, worker.used, worker.waits = trial.number, time.monotonic(), trial.seconds, False
        self._tell(worker, ("start", trial.number, trial.params, trial.seed, until, self._states.pop(trial.number, None)))

    def resume(self, number: int, until: int | None) -> None:
        worker = self._with(number)
        worker.since, worker.waits = time.monotonic(), False
        self._tell(worker, ("resume", until))

    def stop(self, number: int) -> None:
        worker = self._with(number)
        worker.since, worker.waits = time.monotonic(), False
        self._tell(worker, ("stop",))

    def pause(self, number: int) -> None:
        worker = self._with(number)
        self._tell(worker, ("pause",))
        try:
            _, _, self._states[number] = worker.connection.recv()
        except (EOFError, OSError):
            self._states.pop(number, None)  # the state is lost with its worker: the trial restarts
            self._dismiss(worker)
        worker.trial = None

    def wait(self, seconds: float) -> list[Event]:
        deadline = time.monotonic() + seconds
        while not self._events and time.monotonic() < deadline:
            ready = wait([worker.connection for worker in self._workers], min(_LOOK, deadline - time.monotonic()))
            for worker in [worker for worker in self._workers if worker.connection in ready]:
                self._hear(worker)
            self._enforce()
        events = list(self._events)
        self._events.clear()
        return events

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + _GRACE
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.wait()
            worker.connection.close()
        self._workers.clear()

    def _hire(self) -> _Worker:
        ours, theirs = Pipe()
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(self._threads))}
        process = subprocess.Popen(
            [sys.executable, "-m", "modelopt_cli.tuning.executors._worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a trial prints must not mix with the report on standard output
            env={**environment, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        self._tell(worker, self._greeting)
        return worker

    def _with(self, number: int) -> _Worker:
        return next(worker for worker in self._workers if worker.trial == number)

    def _tell(self, worker: _Worker, message: Any) -> None:
        with contextlib.suppress(OSError):  # a dead worker is found out when it is heard
            worker.connection.send(message)

    def _hear(self, worker: _Worker) -> None:
        try:
            while worker.connection.poll():
                event: Event = worker.connection.recv()
                worker.answered = True
                worker.waits = event.waits
                if event.done:
                    worker.trial = None
                elif event.waits:
                    worker.used += time.monotonic() - worker.since
                self._events.append(event)
        except (EOFError, OSError, pickle.UnpicklingError):
            self._dismiss(worker, "crash", None)

    def _dismiss(self, worker: _Worker, kind: FailureKind = "crash", reason: str | None = None) -> None:
        """End a worker; its trial, if any, has failed."""
        if reason is not None:
            worker.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(_GRACE)
        worker.process.kill()
        code = worker.process.wait()
        worker.connection.close()
        self._workers.remove(worker)
        if worker.trial is not None:
            seconds = worker.used + time.monotonic() - worker.since
            why = reason or _how(code, worker.answered)
            self._events.append(Event(worker.trial, done=True, failure=kind, reason=why, seconds=seconds))

    def _enforce(self) -> None:
        """Time and memory limits of the trials that compute now."""
        now, total = time.monotonic(), 0
        look, self._looked = now - self._looked > _LOOK, now if now - self._looked > _LOOK else self._looked
        for worker in list(self._workers):
            if worker.trial is None or worker.waits:
                continue
            seconds = worker.used + now - worker.since
            if self._limits.seconds is not None and seconds > self._limits.seconds:
                limit = f"{self._limits.seconds:g} s"
                self._dismiss(worker, "timeout", f"took longer than tuning.trial_timeout ({limit})")
                continue
            used = _resident(worker.process.pid) if look else 0
            total += used
            if self._limits.bytes is not None and used > self._limits.bytes:
                limit = f"{self._limits.bytes / 1e6:,.0f} MB"
                self._dismiss(worker, "memory", f"held {used / 1e6:,.0f} MB, above tuning.trial_memory ({limit})")
        self.peak_bytes = max(self.peak_bytes, total + (_resident(os.getpid()) if look else 0))


def _how(code: int, answered: bool) -> str:
    """How a process ended."""
    when = "" if answered else ", before it could report (see the messages above)"
    if code < 0:
        return f"the worker process was killed by {signal.Signals(-code).name}{when}"
    return f"the worker process ended with exit code {code}{when}"


def _resident(pid: int) -> int:
    """Memory of a process and its children, in bytes; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        return int(sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]))
    except psutil.Error:
        return 0
