"""The states of paused trials: in memory as long as they are few, then in files that go with the pool."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from modelopt_cli.tuning.executors._trial_run import AncestorRun

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial

IN_MEMORY = 512 * 2**20
"""Bytes of states that stay in memory."""
MOST_SUSPENDED = 32
"""Runs that are paused as they are, processes and all; the others lose what they have, and are run again."""


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
    """Number of a trial -> its packed state, the last one, and the step that it belongs to."""

    def __init__(self, in_memory: int | None = None) -> None:
        """`in_memory`: bytes of states that stay in memory; None: IN_MEMORY."""
        self._left = IN_MEMORY if in_memory is None else in_memory
        self._kept: dict[int, bytes | Path] = {}
        self._steps: dict[int, int] = {}
        self._shared: frozenset[int] = frozenset()
        self._folder: TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, number: int, step: int, pickled: bytes | None) -> None:
        """Keep the packed state of a trial at a step."""
        self.forget(number)
        if pickled is None:
            return
        self._steps[number] = step
        if len(pickled) <= self._left:
            self._left -= len(pickled)
            self._kept[number] = pickled
            return
        self._folder = self._folder or TemporaryDirectory(prefix="modelopt-paused-")
        path = Path(self._folder.name, f"{number}.pickle")
        with suppress(OSError):  # a full disk loses the state, and the trial will be run again
            path.write_bytes(pickled)
            self._kept[number] = path

    def keep(self, numbers: Collection[int]) -> None:
        """From now on these stay when their trials go on; all others are freed."""
        self._shared = frozenset(numbers)
        for number in [number for number in self._kept if number not in self._shared]:
            self.forget(number)

    def of(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> tuple[bytes | None, tuple[AncestorRun, ...]]:
        """What a trial that is to run goes on from, and what has to be computed from there before it can.

        That is its own state (no longer kept then, unless it is shared), or the one of its youngest ancestor whose
        state is kept as of the step at which the next one went on from it; else None, and all are to be computed.
        """
        own = self._get(trial.number)
        if trial.number not in self._shared:
            self.forget(trial.number)
        if own is not None:
            return own, ()
        to_compute: list[AncestorRun] = []
        until = trial.born
        for ancestor in reversed(ancestors):
            state = self._get(ancestor.number) if self._steps.get(ancestor.number) == until else None
            if state is not None:
                return state, tuple(to_compute)
            to_compute.insert(0, AncestorRun(ancestor.params, ancestor.seed, until))
            until = ancestor.born
        return None, tuple(to_compute)

    def _get(self, number: int) -> bytes | None:
        kept = self._kept.get(number)
        if not isinstance(kept, Path):
            return kept
        try:
            return kept.read_bytes()
        except OSError:
            return None

    def forget(self, number: int) -> None:
        """Free what it takes."""
        kept, _ = self._kept.pop(number, None), self._steps.pop(number, None)
        if isinstance(kept, bytes):
            self._left += len(kept)
        elif kept is not None:
            kept.unlink(missing_ok=True)

    def close(self) -> None:
        """Free all."""
        self._kept.clear()
        if self._folder is not None:
            self._folder.cleanup()
