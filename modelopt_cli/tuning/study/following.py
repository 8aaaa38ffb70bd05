"""Reading a study that another process writes, again and again, without disturbing that process or leaving a trace.

While a search writes, its file is opened read-only for an instant: SQLite lets readers in beside the one writer (WAL).
When nobody writes it, a copy is read, since SQLite would make files of its own beside the original, and needs to where
a killed process left a log that was not taken over.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory

from modelopt_cli.core.errors import InputError, StorageError
from modelopt_cli.core.references import restored
from modelopt_cli.tuning.study.header import Header
from modelopt_cli.tuning.study.log import TrialTable
from modelopt_cli.tuning.trials.trial import Trial

_PATIENCE = 2.0  # seconds that a look may wait for the file
_PARTS = ("", "-wal")  # of a database: the file itself, and what was not taken over into it yet


@dataclass
class Clocked:
    """Seconds since the epoch of a trial: when it was started last, and when it was told of last (None: not yet)."""

    started: float | None = None
    ended: float | None = None


@dataclass
class StudyFollower:
    """The trials of the study at `path` as of the last `look`. Each look reads what is new."""

    path: Path
    trials: list[Trial] = field(default_factory=list)
    clocks: dict[int, Clocked] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)  # numbers of the trials that have ended, in that order
    header: Header = field(default_factory=Header)  # what it was begun with; empty before that is written
    began: float | None = None  # seconds since the epoch of its first event
    last: float | None = None  # and of the last one
    _table: TrialTable = field(default_factory=TrialTable)
    _sequence: int = 0
    _identity: tuple[int, int] | None = None

    def look(self, *, written: bool) -> bool:
        """Take over what is new; whether there was anything. `written`: a process may write it meanwhile.

        Raises StorageError for what is no study, or makes no sense.
        """
        try:
            identity = self.path.stat()
        except OSError:
            return False
        if self._identity not in (None, (identity.st_dev, identity.st_ino)):
            self._begin_again()
        self._identity = (identity.st_dev, identity.st_ino)
        try:
            with _opened(self.path, written=written) as connection:
                return self._take(connection)
        except sqlite3.OperationalError as error:
            if written and "no such table" in str(error):
                return False  # it is being made
            if written:
                return False  # busy, or being closed: the next look will tell
            raise StorageError(f"{self.path} cannot be read ({error})") from None
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{self.path} is no study, or is damaged ({error})") from None

    def _begin_again(self) -> None:
        """Another file stands there now."""
        self._table, self._sequence, self.header = TrialTable(), 0, Header()
        self.trials, self.clocks, self.ends, self.began, self.last = [], {}, [], None, None

    def _take(self, connection: sqlite3.Connection) -> bool:
        rows = connection.execute(
            "SELECT sequence, time, kind, trial, payload FROM events WHERE sequence > ? ORDER BY sequence",
            (self._sequence,),
        ).fetchall()
        if not self.header:
            meta = connection.execute("SELECT key, value FROM meta").fetchall()
            self.header = {key: restored(loads(value)) for key, value in meta}  # type: ignore[assignment]
        for sequence, time, kind, number, payload in rows:
            try:
                self._table.apply(kind, number, restored(loads(payload)))
            except (LookupError, TypeError, ValueError) as error:
                raise StorageError(f"{self.path} is damaged (event '{kind}' of trial {number}: {error})") from None
            self._sequence = sequence
            self._clock(kind, number, float(time))
        self.trials = self._table.trials
        return bool(rows)

    def _clock(self, kind: str, number: int, time: float) -> None:
        self.began = time if self.began is None else self.began
        self.last = time
        if kind == "started":
            self.clocks.setdefault(number, Clocked()).started = time
        elif kind == "told":
            self.clocks.setdefault(number, Clocked()).ended = time
            self.ends.append(number)


@contextmanager
def _opened(path: Path, *, written: bool) -> Iterator[sqlite3.Connection]:
    """The study in place, read-only, or a copy of it where nobody writes it."""
    if written:
        with closing(_connected(path)) as connection:
            yield connection
        return
    with TemporaryDirectory(prefix="modelopt-") as folder:
        copy = Path(folder, path.name)
        try:
            for part in _PARTS:
                original = path.with_name(path.name + part)
                if part == "" or original.exists():
                    shutil.copyfile(original, copy.with_name(copy.name + part))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); make it readable") from None
        with closing(sqlite3.connect(copy)) as connection:
            yield connection


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA query_only=ON")
    return connection


def readable(path: Path) -> bool:
    """Whether this process may read the file."""
    return os.access(path, os.R_OK)
