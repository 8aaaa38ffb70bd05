"""A worker process: `python -m modelopt_cli.tuning.executors._worker FD`. Computes one trial at a time.

Speaks over a pipe. First comes (search path, pickled objective); then commands ("start", number, params, seed, until,
state), ("resume", until), ("stop",), ("pause",). Answers are Events, and for a pause the run's state.
"""

from __future__ import annotations

import contextlib
import ctypes
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from modelopt_cli.tuning.executors import Event
from modelopt_cli.tuning.executors._contain import FOREVER, Contained

_SLICE = 0.1  # seconds between reports of a trial that runs freely


def main(descriptor: int) -> None:
    """Serve until the parent closes the pipe or asks to end (SIGTERM: the trial's run is closed first)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    signal.signal(signal.SIGTERM, _leave)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: do not outlive the parent
    connection = Connection(descriptor)
    path, pickled = connection.recv()
    sys.path[:] = path
    _Worker(connection, pickle.loads(pickled)).serve()


def _leave(signal_number: int, frame: Any) -> None:
    raise SystemExit(128 + signal_number)


class _Worker:
    """Holds the trial under way."""

    def __init__(self, connection: Connection, objective: Any) -> None:
        self._connection, self._objective = connection, objective
        self._current: Contained | None = None

    def serve(self) -> None:
        """Obey commands until the pipe closes."""
        try:
            while True:
                self._obey(self._connection.recv())
        except (EOFError, OSError):
            pass
        finally:
            if self._current is not None:
                self._current.close()

    def _obey(self, command: tuple[Any, ...]) -> None:
        match command:
            case ("start", number, params, seed, until, state):
                self._current = Contained.of(self._objective, number, params, seed, until, state)
                self._compute()
            case ("resume", until) if self._current is not None:
                self._current.until = FOREVER if until is None else until
                self._compute()
            case ("stop",) if self._current is not None:
                self._send(self._current.stop())
                self._current = None
            case ("pause",) if self._current is not None:
                state, run = self._current.state(), self._current
                self._current = None
                run.close()
                self._connection.send(("state", run.number, state))

    def _compute(self) -> None:
        while self._current is not None:
            event = self._current.advance(_SLICE)
            if event.done:
                self._current = None
            self._send(event)
            if event.done or event.waits:
                return

    def _send(self, event: Event) -> None:
        self._connection.send(event)


if __name__ == "__main__":
    main(int(sys.argv[1]))
    # Threads that libraries left behind must not keep a worker alive.
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(0.5)
