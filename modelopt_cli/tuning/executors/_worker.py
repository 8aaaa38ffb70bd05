"""A worker process: `python -m modelopt_cli.tuning.executors._worker FD`. Computes one trial at a time.

Speaks over a pipe. First comes (search path, pickled objective), answered by None, or by the text of what is wrong with
it; then commands ("start", number, params, seed, until, state, ancestors), ("resume", until), ("stop",),
("pause", may suspend), and to stop one that is paused ("finish", number, params, seed, step, state, ancestors). Answers
are Events, and for a pause (step, state, whether the run is suspended in place of having a state: its worker then keeps
it, for a later "resume" or "stop"). States are packed.

Its parent starts it under supervision (core/processes/supervised.py), so that neither it nor what trials start
outlives the parent.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.processes.interrupts import Leave, noting_interrupts
from modelopt_cli.tuning.executors import Event
from modelopt_cli.tuning.executors._paused_states import packed, unpacked
from modelopt_cli.tuning.executors._process_state import ProcessState
from modelopt_cli.tuning.executors._trial_run import AncestorRun, TrialRun, contained
from modelopt_cli.tuning.trials.failures import classify

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Params

_SLICE = 0.1  # seconds between reports of a trial that runs freely


def main(descriptor: int) -> None:
    """Serve until the parent closes the pipe, or asks to end (SIGTERM: the trial's run is closed first)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    signal.signal(signal.SIGTERM, _leave)
    connection: Connection[Any, Any] = Connection(descriptor)
    with (
        contextlib.suppress(EOFError, OSError, Leave),
        noting_interrupts(),
    ):  # EOFError: the parent has closed the pipe, or died
        _serve(connection)


def _serve(connection: Connection[Any, Any]) -> None:
    path, pickled = connection.recv()
    sys.path[:] = path
    try:
        objective = pickle.loads(pickled)
    except Leave:
        raise
    except BaseException as error:
        connection.send(classify(error)[1])
        return
    with contained():  # what is wrong will fail the trials, and be told as their reason
        objective.prepare()
    connection.send(None)
    _Worker(connection, objective).serve()


def _leave(signal_number: int, frame: object) -> None:
    raise Leave


class _Worker:
    """Holds the trial under way."""

    def __init__(self, connection: Connection[Any, Any], objective: Any) -> None:
        self._connection, self._objective = connection, objective
        self._current: TrialRun | None = None
        self._process = ProcessState()

    def serve(self) -> None:
        """Obey commands until the pipe closes."""
        try:
            while True:
                self._obey(self._connection.recv())
        finally:
            if self._current is not None:
                self._current.close()

    def _obey(self, command: tuple[Any, ...]) -> None:
        match command:
            case ("start", number, params, seed, until, state, ancestors):
                self._current = self._run(number, params, seed, state, ancestors)
                self._current.go_on(until)
                self._compute(self._current)
            case ("finish", number, params, seed, step, state, ancestors):
                self._tell(self._run(number, params, seed, state, ancestors).stop(step))
            case ("resume", until) if self._current is not None:
                self._current.go_on(until)
                self._compute(self._current)
            case ("stop",) if self._current is not None:
                self._tell(self._current.stop())
            case ("pause", may_suspend) if self._current is not None:
                run, step, state = self._current, self._current.step, packed(self._current.state())
                suspended = state is None and may_suspend and run.suspend()
                if not suspended:
                    self._current = None
                    run.close()
                self._connection.send((step, state, suspended))

    def _run(
        self, number: int, params: Params, seed: int, state: bytes | None, ancestors: Sequence[AncestorRun]
    ) -> TrialRun:
        self._process.restore(seed)
        return TrialRun(number, self._objective, params, seed, state=unpacked(state), ancestors=ancestors)

    def _compute(self, run: TrialRun) -> None:
        while True:
            event = run.advance(_SLICE)
            self._tell(event)
            if event.done or event.waits:
                return

    def _tell(self, event: Event) -> None:
        if event.done:
            self._current = None
        self._connection.send(event)


if __name__ == "__main__":
    main(int(sys.argv[1]))
