"""The states of paused trials: in memory as long as they are few, then in files that go with the pool."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelopt_cli.tuning.trial import Trial

_IN_MEMORY = 512 * 2**20  # bytes


def packed(state: Any) -> bytes | None:
    """The state as bytes: what a run still changes does not change them, and any process can be sent them.

    (A pipe of multiprocessing would hand over torch's tensors as shared memory, which ends with its owner.) None where
    the run has no state to give, or one that cannot be pickled: the trial will be run again from the start.
    """
    if state is None:
        return None
    try:
        return pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # pickling runs the state's own code
        return None


def unpacked(pickled: bytes | None) -> Any:
    """The state again."""
    return None if pickled is None else pickle.loads(pickled)


class PausedStates:
    """Number of a trial -> its packed state."""

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._left = in_memory
        self._kept: dict[int, bytes | Path] = {}
        self._folder: TemporaryDirectory[str] | None = None

    def put(self, number: int, pickled: bytes | None) -> None:
        """Keep a packed state."""
        self.forget(number)
        if pickled is None:
            return
        if len(pickled) <= self._left:
            self._left -= len(pickled)
            self._kept[number] = pickled
            return
        self._folder = self._folder or TemporaryDirectory(prefix="modelopt-paused-")
        path = Path(self._folder.name, f"{number}.pickle")
        with suppress(OSError):  # a full disk loses the state, and the trial will be run again
            path.write_bytes(pickled)
            self._kept[number] = path

    def of(self, trial: Trial) -> bytes | None:
        """What a trial that is to run goes on from, its own state (no longer kept then) or its parent's; else None."""
        state = self._get(trial.number)
        self.forget(trial.number)
        return self._get(trial.parent) if state is None and trial.parent is not None and not trial.curve else state

    def _get(self, number: int) -> bytes | None:
        found = self._kept.get(number)
        return found.read_bytes() if isinstance(found, Path) else found

    def forget(self, number: int) -> None:
        """Free what it takes."""
        found = self._kept.pop(number, None)
        if isinstance(found, bytes):
            self._left += len(found)
        elif found is not None:
            found.unlink(missing_ok=True)

    def close(self) -> None:
        """Free all."""
        self._kept.clear()
        if self._folder is not None:
            self._folder.cleanup()
