"""A pool of worker processes, started once and reused. What one trial does to its process is that trial's failure."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

import psutil

from modelopt_cli.core.device import usable_cores
from modelopt_cli.core.errors import FailureKind, UsageError
from modelopt_cli.tuning.executors import Event, Limits, Pool
from modelopt_cli.tuning.executors._gpus import VARIABLE, least_used
from modelopt_cli.tuning.executors._paused_states import IN_BYTES, MOST_SUSPENDED, PausedStates, States
from modelopt_cli.tuning.executors._worker_process import WorkerProcess, resident_bytes

if TYPE_CHECKING:
    from modelopt_cli.tuning.objective import Objective
    from modelopt_cli.tuning.trials.trial import Trial

_LOOK = 0.2  # seconds between looks at the workers' clocks, and at their memory where it is limited
_MEASURE = 1.0  # seconds between looks at their memory where it is not: looking is not for free
_GRACE = 3.0  # seconds between SIGTERM and SIGKILL
_SUSPENDED_SHARE = 0.25  # of the machine's memory, which runs that are paused as they are may hold


def pickled_objective(objective: Objective, where: str) -> bytes:
    """The objective for other processes. Raises UsageError where it cannot be sent; `where`: to what."""
    try:
        return pickle.dumps(objective)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        text = f"the objective cannot be sent to {where} ({error}); use executor: serial"
        raise UsageError(text) from None


def threads_each(workers: int) -> int:
    """Threads that each of so many processes computes with: its share of the cores, at most OMP_NUM_THREADS.

    Threads that have no core to themselves wait for each other, at ten times the cost: who shares the machine says so.
    """
    share = max(1, usable_cores() // workers)
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # of nested ones the outermost
    return min(share, int(asked)) if asked.isdecimal() and int(asked) > 0 else share


@dataclass(frozen=True)
class Surroundings:
    """What worker processes find around them."""

    threads: int  # each computes with so many
    environment: Mapping[str, str] | None = None  # beside this process's own
    output: int | None = None  # a descriptor where what trials print goes; None: this process's standard error


class ProcessPool(Pool):
    """See the module docstring. `workers` processes share the machine's cores, unless `surroundings` say otherwise.

    `objective` is pickled. `states`: who keeps the states of paused trials; None: memory, then files. `gpus`:
    what a worker may see of the GPUs, a place each (_gpus.py); empty: all that this process sees.
    """

    def __init__(
        self,
        objective: bytes,
        workers: int,
        limits: Limits,
        *,
        states: States | None = None,
        surroundings: Surroundings | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        self._greeting = (list(sys.path), objective)
        self.slots, self._limits, self._gpus = workers, limits, gpus
        self._surroundings = surroundings or Surroundings(threads_each(workers))
        self._states: States = states or PausedStates(IN_BYTES)
        self._workers: list[WorkerProcess] = []
        self._events: list[Event] = []
        self._looked = self._measured = 0.0

    def start(self, trial: Trial, until: int | None, ancestors: Sequence[Trial] = ()) -> None:
        worker = self._with(trial.number)
        if worker is not None:  # it waits there, or is suspended
            worker.go_on(("resume", until))
        else:
            self._give(trial, "start", until, ancestors)

    def stop(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> None:
        worker = self._with(trial.number)
        if worker is not None:
            worker.go_on(("stop",))
        else:
            self._give(trial, "finish", trial.step, ancestors)

    def _give(self, trial: Trial, command: str, until: int | None, ancestors: Sequence[Trial]) -> None:
        """An idle worker, or a new one, gets the trial."""
        worker = next((worker for worker in self._workers if worker.trial is None), None) or self._hire()
        worker.begin(trial.number)
        worker.send((command, trial.number, trial.params, trial.seed, until, *self._states.of(trial, ancestors)))

    def _hire(self) -> WorkerProcess:
        around = self._surroundings
        gpu = least_used(self._gpus, (worker.gpu for worker in self._workers)) if self._gpus else ""
        environment = {**(around.environment or {}), **({VARIABLE: gpu} if gpu else {})}
        worker = WorkerProcess(around.threads, _GRACE, environment, around.output)
        worker.gpu = gpu
        worker.send(self._greeting)
        self._workers.append(worker)
        return worker

    def pause(self, number: int) -> None:
        worker = next(worker for worker in self._workers if worker.trial == number)
        worker.send(("pause", self._may_suspend()))
        try:
            step, state, worker.suspended = worker.connection.recv()
            self._states.put(number, step, state)
            if worker.suspended:
                return
        except (EOFError, OSError):  # the state is lost with its worker: the trial will restart
            worker.trial = None
            self._dismiss(worker, "crash")
        worker.trial = None

    def _may_suspend(self) -> bool:
        """Whether memory suffices for one more run that is paused as it is."""
        suspended = [worker for worker in self._workers if worker.suspended]
        if len(suspended) >= MOST_SUSPENDED:
            return False
        held = sum(resident_bytes(worker.process.family) for worker in suspended)
        return bool(held <= _SUSPENDED_SHARE * psutil.virtual_memory().total)

    def keep(self, numbers: Collection[int]) -> None:
        self._states.keep(numbers)

    def _with(self, number: int) -> WorkerProcess | None:
        return next((worker for worker in self._workers if worker.trial == number), None)

    def wait(self, seconds: float) -> list[Event]:
        deadline = time.monotonic() + seconds
        while not self._events and (left := deadline - time.monotonic()) > 0:
            ready = wait([worker.connection for worker in self._workers], min(_LOOK, left))
            for worker in [worker for worker in self._workers if worker.connection in ready]:
                self._hear(worker)
            self._enforce()
        events, self._events = self._events, []
        return events

    def _hear(self, worker: WorkerProcess) -> None:
        try:
            while worker.connection.poll():
                message = worker.connection.recv()
                if isinstance(message, Event):
                    worker.note(message)
                    self._events.append(message)
                elif message is None:
                    worker.is_ready()
                else:
                    raise UsageError(f"the objective cannot be read in a worker process: {message}")
        except (EOFError, OSError, pickle.UnpicklingError):
            self._dismiss(worker, "crash")

    def _dismiss(self, worker: WorkerProcess, kind: FailureKind, reason: str = "") -> None:
        """End a worker; its trial, if any, has failed."""
        self._workers.remove(worker)
        worker.end()
        if worker.trial is not None and not worker.suspended:  # a paused trial will be run again, when it is its turn
            why = reason or worker.how_it_ended()
            self._events.append(Event(worker.trial, done=True, failure=kind, reason=why, seconds=worker.unreported()))

    def _enforce(self) -> None:
        """Time and memory limits of the trials that compute now."""
        if time.monotonic() - self._looked < _LOOK:
            return
        held = self._measure()
        for worker in [worker for worker in self._workers if worker.trial is not None and not worker.waits]:
            used = held.get(worker, 0)
            if self._limits.seconds is not None and worker.seconds() > self._limits.seconds:
                limit = f"{self._limits.seconds:g} s"
                self._dismiss(worker, "timeout", f"took longer than tuning.trial_timeout ({limit})")
            elif self._limits.bytes is not None and used > self._limits.bytes:
                limit = f"{self._limits.bytes / 1e6:,.0f} MB"
                self._dismiss(worker, "memory", f"held {used / 1e6:,.0f} MB, above tuning.trial_memory ({limit})")
        self._looked = time.monotonic()

    def _measure(self) -> dict[WorkerProcess, int]:
        """Bytes that each worker holds; empty when it is not yet time to look."""
        if self._limits.bytes is None and time.monotonic() - self._measured < _MEASURE:
            return {}
        held = {worker: resident_bytes(worker.process.family) for worker in self._workers}
        self.peak_bytes = max(self.peak_bytes, resident_bytes(os.getpid(), alone=True) + sum(held.values()))
        self._measured = time.monotonic()
        return held

    def close(self) -> None:
        self._measured = 0.0
        self._measure()
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._states.close()
