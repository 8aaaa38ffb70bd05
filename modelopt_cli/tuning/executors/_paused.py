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


class PausedStates:
    """Number of a trial -> its state; pickled, so that what a run still changes does not change what is kept."""

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._left = in_memory
        self._kept: dict[int, bytes | Path] = {}
        self._folder: TemporaryDirectory[str] | None = None

    def put(self, number: int, state: Any) -> None:
        """Keep a state; None (the run has none to give) keeps nothing."""
        self.forget(number)
        if state is None:
            return
        pickled = pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
        if len(pickled) <= self._left:
            self._left -= len(pickled)
            self._kept[number] = pickled
            return
        self._folder = self._folder or TemporaryDirectory(prefix="modelopt-paused-")
        path = Path(self._folder.name, f"{number}.pickle")
        with suppress(OSError):  # a full disk loses the state, and the trial will be run again
            path.write_bytes(pickled)
            self._kept[number] = path

    def of(self, trial: Trial) -> Any:
        """What a trial that is to run goes on from, its own state (no longer kept then) or its parent's; else None."""
        state = self._get(trial.number)
        self.forget(trial.number)
        return self._get(trial.parent) if state is None and trial.parent is not None and not trial.curve else state

    def _get(self, number: int) -> Any:
        found = self._kept.get(number)
        if found is None:
            return None
        return pickle.loads(found if isinstance(found, bytes) else found.read_bytes())

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
