"""What scripts leave in a run: the log of each trial, and a folder of its own for what it writes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from modelopt_cli.core.errors import StorageError

LOGS = "logs"
FOLDERS = "trial_dirs"
_MOST_READ = 2**16  # bytes of a log's end that are read
_STYLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours and the like, for a terminal


@dataclass(frozen=True)
class TrialFiles:
    """Where they lie, by the trial's number. `logged` False: nothing is kept of the output, as of a run in memory."""

    folder: Path
    logged: bool = True

    def log(self, number: int) -> Path | None:
        """The log of a trial."""
        return self.folder / LOGS / f"{number}.log" if self.logged else None

    def trial_dir(self, number: int) -> Path:
        """The folder of a trial; absolute."""
        return (self.folder / FOLDERS / str(number)).absolute()

    def patterns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(all that a trial leaves, its log): absolute, with {number} in place of the trial's."""
        home = str(self.folder.absolute()).replace("{", "{{").replace("}", "}}")
        logs = (f"{home}/{LOGS}/{{number}}.log",) if self.logged else ()
        return (*logs, f"{home}/{FOLDERS}/{{number}}"), logs

    def prepare(self, number: int | None = None) -> None:
        """Make the folder of a trial and what it lies in; None: the latter. Raises StorageError where that cannot be.

        A folder that is there stays as it is: a trial that is begun again finds what it left.
        """
        wanted = self.folder / FOLDERS if number is None else self.trial_dir(number)
        for path in (wanted, self.folder / LOGS) if self.logged else (wanted,):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"{path} cannot be made ({error.strerror}), which what scripts leave is kept in; make room, or "
                    "choose another folder with --out"
                ) from None

    def numbers(self) -> set[int]:
        """Trials that have a folder."""
        with contextlib.suppress(OSError):
            return {int(entry.name) for entry in os.scandir(self.folder / FOLDERS) if entry.name.isdigit()}
        return set()

    def remove(self, numbers: Collection[int]) -> None:
        """Remove the folders of these trials with all that is in them; what cannot be removed stays."""
        for number in numbers:
            shutil.rmtree(self.trial_dir(number), onerror=_made_writable)

    def remove_empty(self, numbers: Collection[int]) -> None:
        """Remove the folders of these trials that nothing is in, and the folders of all where nothing is left."""
        for path in (*map(self.trial_dir, numbers), self.folder / FOLDERS, self.folder / LOGS):
            with contextlib.suppress(OSError):
                path.rmdir()


def _made_writable(action: Callable[..., object], path: str, _: object) -> None:
    """Try again where a script took the write permission from its folders; a second failure is passed over."""
    with contextlib.suppress(OSError):
        Path(path).parent.chmod(stat.S_IRWXU)
        if Path(path).is_dir() and not Path(path).is_symlink():
            Path(path).chmod(stat.S_IRWXU)
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink()


def end_of_log(path: Path, lines: int) -> list[str] | None:
    """The last `lines` lines of a log; None where there is none. Other control characters than colours are in it still.

    Of a progress bar, which overwrites its line, the last state is shown.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # a fifo in its place must not block
    except OSError:
        return None
    with contextlib.suppress(OSError), os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        stream.seek(max(0, status.st_size - _MOST_READ))
        *whole, last = stream.read(_MOST_READ).decode("utf-8", "replace").split("\n")
        if status.st_size > _MOST_READ:
            whole = whole[1:] or ([last[-1000:]] if last else [])
        read = [*whole, last] if last else whole
        return [_as_it_ends(line) for line in read[-lines:]]
    return None


def _as_it_ends(line: str) -> str:
    """What a line shows after its last carriage return that something follows, without colours."""
    return _STYLE.sub("", line).rstrip("\r").rpartition("\r")[2]
