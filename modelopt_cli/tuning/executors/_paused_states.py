"""The states of paused trials: in memory as long as they are few, then in files that go with the pool."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from modelopt_cli.tuning.executors._trial_run import AncestorRun

if TYPE_CHECKING:
    from modelopt_cli.tuning.trials.trial import Trial

S = TypeVar("S")

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


class States(Protocol):
    """What a pool of worker processes asks of whoever keeps its states."""

    def put(self, number: int, step: int, state: bytes | None) -> None:
        """Keep the packed state of a trial at a step."""

    def of(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> tuple[bytes | None, tuple[AncestorRun, ...]]:
        """What a trial that is to run goes on from, and what has to be computed from there before it can."""

    def keep(self, numbers: Collection[int]) -> None:
        """From now on these stay when their trials go on; all others are freed."""

    def close(self) -> None:
        """Free all."""


@dataclass(frozen=True)
class StateForm(Generic[S]):
    """In which form states lie in memory, and how they become files: bytes, or what stands for bytes elsewhere."""

    size: Callable[[S], int]
    to_bytes: Callable[[S], bytes | None]  # None: it is lost
    from_bytes: Callable[[bytes], S]


def _same(state: bytes) -> bytes:
    return state


IN_BYTES: StateForm[bytes] = StateForm(len, _same, _same)


class PausedStates(Generic[S]):
    """Number of a trial -> its packed state, the last one, and the step that it belongs to."""

    def __init__(self, form: StateForm[S], in_memory: int | None = None, folder: Path | None = None) -> None:
        """`in_memory`: bytes of states that stay in memory; None: IN_MEMORY.

        `folder`: where files lie, made when needed and removed in the end; what is in it was left by a process that
        was killed, and goes. None: a temporary one.
        """
        self._form, self._left = form, IN_MEMORY if in_memory is None else in_memory
        self._kept: dict[int, S | Path] = {}
        self._steps: dict[int, int] = {}
        self._shared: frozenset[int] = frozenset()
        self._folder, self._scratch = folder, None if folder is not None else _Scratch()
        self._remove_files()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, number: int, step: int, state: S | None) -> None:
        """Keep the packed state of a trial at a step."""
        self.forget(number)
        if state is None:
            return
        self._steps[number] = step
        size = self._form.size(state)
        if size <= self._left:
            self._left -= size
            self._kept[number] = state
            return
        pickled = self._form.to_bytes(state)
        with suppress(OSError):  # a full disk loses the state, and the trial will be run again
            path = self._file(number)
            if pickled is not None:
                path.write_bytes(pickled)
                self._kept[number] = path

    def _file(self, number: int) -> Path:
        folder = self._folder if self._scratch is None else self._scratch.path
        assert folder is not None
        folder.mkdir(exist_ok=True)
        return folder / f"{number}.pickle"

    def keep(self, numbers: Collection[int]) -> None:
        """From now on these stay when their trials go on; all others are freed."""
        self._shared = frozenset(numbers)
        for number in [number for number in self._kept if number not in self._shared]:
            self.forget(number)

    def of(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> tuple[S | None, tuple[AncestorRun, ...]]:
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

    def _get(self, number: int) -> S | None:
        kept = self._kept.get(number)
        if not isinstance(kept, Path):
            return kept
        try:
            return self._form.from_bytes(kept.read_bytes())
        except OSError:
            return None

    def forget(self, number: int) -> None:
        """Free what it takes."""
        kept, _ = self._kept.pop(number, None), self._steps.pop(number, None)
        if isinstance(kept, Path):
            kept.unlink(missing_ok=True)
        elif kept is not None:
            self._left += self._form.size(kept)

    def lost(self, state: S) -> None:
        """A state that `of` gave has turned out to be lost: whoever has the same loses it, too."""
        for number in [number for number, kept in self._kept.items() if kept is state]:
            self.forget(number)

    def close(self) -> None:
        """Free all."""
        self._kept.clear()
        self._remove_files()

    def _remove_files(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        elif self._scratch is not None:
            self._scratch.remove()


class _Scratch:
    """A temporary folder that is made when it is first asked for."""

    def __init__(self) -> None:
        self._made: TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        self._made = self._made or TemporaryDirectory(prefix="modelopt-paused-")
        return Path(self._made.name)

    def remove(self) -> None:
        if self._made is not None:
            self._made.cleanup()
        self._made = None
