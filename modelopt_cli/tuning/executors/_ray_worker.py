"""One place for trials on a node of a Ray cluster: an actor, with a worker process that computes.

The actor itself computes nothing: whatever a trial does to its process is that trial's failure, as in a pool of worker
processes, of which it has one with a single place. What ends the actor is the loss of its node, then, and no trial's
fault. It is asked for one thing at a time; states of paused trials come with the command and go back with the answer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import ModeloptError
from modelopt_cli.tuning.executors import Event, Limits
from modelopt_cli.tuning.executors._processes import ProcessPool, Surroundings
from modelopt_cli.tuning.executors._ray_files import Copies
from modelopt_cli.tuning.objective import Folders

if TYPE_CHECKING:
    from modelopt_cli.tuning.executors._trial_run import AncestorRun
    from modelopt_cli.tuning.trials.trial import Trial

_GATHER = 0.5  # seconds for which events are gathered, where none asks for a decision
_SHOW = 5.0  # seconds between looks at what a trial writes that somebody may watch
_MOST_OUTPUT = 2**16  # bytes of what trials print that are kept between two answers


@dataclass(frozen=True)
class Place:
    """What a worker is told when it begins."""

    limits: Limits
    threads: int
    folder: str  # the working folder of the search
    path: Sequence[str]  # where the search imports from
    environment: Mapping[str, str]
    folders: Folders
    sign: str  # a file of the machine that searches: who sees it sees all; empty: trials need no files


@dataclass(frozen=True)
class Greeting:
    """The first answer of all."""

    node: str  # for people
    version: str  # of this package there
    sees: bool  # the files of the machine that searches


@dataclass(frozen=True)
class Received:
    """Files have arrived."""

    problem: str = ""  # why they cannot be put where they belong


@dataclass(frozen=True)
class Answer:
    """What became of a trial since the last answer."""

    events: list[Event] = field(default_factory=list)
    output: bytes = b""  # what trials have printed
    peak_bytes: int = 0
    files: bytes = b""  # what a trial has left, of a machine whose files nobody else sees
    problem: str = ""  # why no trial can be computed here


def own_version() -> str:
    """Of this package; empty where it is not installed, but on the path."""
    try:
        return version("modelopt-cli")
    except PackageNotFoundError:
        return ""


class RayWorker:
    """See the module docstring."""

    def __init__(self, objective: bytes, surroundings: Place) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the search decides what Ctrl-C means
        with contextlib.suppress(OSError):
            os.chdir(surroundings.folder)
        sys.path[:0] = [entry for entry in surroundings.path if entry not in sys.path and Path(entry).exists()]
        self._surroundings = surroundings
        self._copies: Copies | None = None
        self._trial: Trial | None = None  # that it had last
        self._shown = 0.0
        self._output = _Output()
        self._states = _HandedOver()
        self._pool = ProcessPool(
            objective,
            1,
            surroundings.limits,
            states=self._states,
            surroundings=Surroundings(surroundings.threads, surroundings.environment, self._output.descriptor),
        )

    def greet(self) -> Greeting:
        """It has begun."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        sees = not self._surroundings.sign or Path(self._surroundings.sign).exists()
        return Greeting(f"{ray.util.get_node_ip_address()} (node {node[:8]})", own_version(), sees)

    def receive(self, files: bytes) -> Received:
        """Put what trials find where they look for it; from here on what they leave goes back."""
        self._copies = Copies(self._surroundings.folders)
        try:
            self._copies.receive(files)
        except ModeloptError as error:
            return Received(str(error))
        with contextlib.suppress(OSError):
            os.chdir(self._surroundings.folder)
        return Received()

    def start(self, trial: Trial, until: int | None, state: bytes | None, to_compute: Sequence[AncestorRun]) -> Answer:
        """Begin a trial from a state, or go on with one that this worker has."""
        self._trial = trial
        self._states.given = state, tuple(to_compute)
        self._pool.start(trial, until)
        return self.more()

    def stop(self, trial: Trial, state: bytes | None, to_compute: Sequence[AncestorRun]) -> Answer:
        """End a trial that waits here, or one that is paused, with its state."""
        self._trial = trial
        self._states.given = state, tuple(to_compute)
        self._pool.stop(trial)
        return self.more()

    def more(self) -> Answer:
        """What happens next: at once when a trial ends or waits, else what there is after a while."""
        events: list[Event] = []
        deadline = time.monotonic() + _GATHER
        try:
            while (left := deadline - time.monotonic()) > 0 and not any(each.done or each.waits for each in events):
                events += self._pool.wait(left)
        except ModeloptError as error:
            return Answer(events, self._output.taken(), problem=str(error))
        files = self._left(any(each.done or each.waits for each in events))
        return Answer(events, self._output.taken(), self._pool.peak_bytes, files)

    def _left(self, at_rest: bool) -> bytes:
        """What the trial has left since it was last asked; while it computes, what is watched, and not too often."""
        if self._copies is None or self._trial is None:
            return b""
        if not at_rest and time.monotonic() - self._shown < _SHOW:
            return b""
        self._shown = time.monotonic()
        folders = self._surroundings.folders
        return self._copies.changed(folders.left if at_rest else folders.watched, self._trial.number, self._trial.seed)

    def pause(self, number: int) -> tuple[tuple[int, int | None], bytes | None]:
        """((step, bytes of its state), state) of a trial that waits here; None: it has none, and stays here as it is.

        Two values, so that the state need not go to whoever asks.
        """
        self._pool.pause(number)
        step, state = self._states.taken
        return (step, None if state is None else len(state)), state

    def close(self) -> None:
        """End all processes, and remove what was put here."""
        self._pool.close()
        if self._copies is not None:
            self._copies.close()


class _HandedOver:
    """States that come with the command and go with the answer."""

    def __init__(self) -> None:
        self.given: tuple[bytes | None, tuple[AncestorRun, ...]] = None, ()
        self.taken: tuple[int, bytes | None] = 0, None

    def put(self, number: int, step: int, state: bytes | None) -> None:
        self.taken = step, state

    def of(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> tuple[bytes | None, tuple[AncestorRun, ...]]:
        given, self.given = self.given, (None, ())
        return given

    def keep(self, numbers: Collection[int]) -> None:
        pass

    def close(self) -> None:
        pass


class _Output:
    """What worker processes print: read as it comes, so that none waits for a full pipe; of much, the end is kept."""

    def __init__(self) -> None:
        self._reader, self.descriptor = os.pipe()
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while data := os.read(self._reader, _MOST_OUTPUT):
            with self._lock:
                self._parts.append(data)
                self._size += len(data)
                while self._size > _MOST_OUTPUT and len(self._parts) > 1:
                    self._size -= len(self._parts.popleft())

    def taken(self) -> bytes:
        """What has come since this was last asked."""
        with self._lock:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
        return data
