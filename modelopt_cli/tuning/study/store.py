"""The study's store: an append-only log of events in SQLite, from which the trials are rebuilt.

One writer, held by a kernel lock; others may read while it writes (WAL). What is committed survives a power cut
(synchronous=FULL). Asks and tells commit at once, reports of a curve in groups, so that a kill loses at most a second
of reports. Values that came in by `${NAME}` stand in it as that reference.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelopt_cli.core.errors import InputError, StorageError, UsageError
from modelopt_cli.core.references import restored, stored
from modelopt_cli.tuning.study.writer_lock import WriterLock

APPLICATION_ID = 0x6D6F7074  # "mopt"
VERSION = 1
_GROUP_SECONDS = 1.0  # reports are committed at least this often while they keep coming

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    trial INTEGER NOT NULL,
    payload TEXT NOT NULL
);
"""


class Store:
    """The log at `path`, or in memory.

    Raises StorageError for a file that is damaged, no store of ours, not writable or in use; InputError when one that
    is to be read only does not exist.
    """

    def __init__(self, path: Path | None, *, write: bool = True) -> None:
        self._name = str(path) if path is not None else "the study in memory"
        if not write and (path is None or not path.is_file()):
            raise InputError(f"{self._name} does not exist; name a run directory that holds a study.sqlite")
        lock = WriterLock(path) if write and path is not None else None
        connection: sqlite3.Connection | None = None
        try:
            connection = _connect(path, write)
            self._connection = connection
            self._prepare(write)
        except BaseException as error:
            _let_go(connection, lock)
            if isinstance(error, sqlite3.DatabaseError):
                raise self._problem(error) from None
            raise
        self._let_go = weakref.finalize(self, _let_go, connection, lock)
        self._committed = time.monotonic()
        self._path = path if write else None
        self._identities = {path: path.stat()} if write and path is not None else {}

    def _prepare(self, write: bool) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0 and write:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(
                f"BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; {_SCHEMA} COMMIT;"
            )
            return
        if application != APPLICATION_ID or version != VERSION:
            raise StorageError(
                f"{self._name} is no study of this version of modelopt (application {application:#x}, "
                f"version {version}); name another path, or start a new run"
            )
        if write:
            self._connection.execute("PRAGMA synchronous=FULL")
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self.damaged(str(verdict))

    def _check_files(self) -> None:
        """Raise StorageError when the file was removed, renamed or replaced: SQLite would write on to nobody's file."""
        if self._path is None:
            return
        log = self._path.with_name(f"{self._path.name}-wal")  # made by the first event
        try:
            if log not in self._identities and log.exists():
                self._identities[log] = log.stat()
            there = all(os.path.samestat(path.stat(), before) for path, before in self._identities.items())
        except OSError:
            there = False
        if not there:
            raise StorageError(
                f"{self._name} was removed, renamed or replaced while it was written, so that no trial can be kept any "
                "more; start a new run"
            )

    def damaged(self, what: str) -> StorageError:
        """The error to raise when what the store holds makes no sense."""
        return StorageError(f"{self._name} is damaged ({what}); restore it from a copy, or start a new run")

    def _problem(self, error: sqlite3.DatabaseError) -> Exception:
        text = str(error)
        if isinstance(error, sqlite3.ProgrammingError):  # closed, or used from another thread
            return UsageError(f"{self._name}: {text} Open the study again with Study.open, in this thread")
        if "full" in text:
            return StorageError(f"{self._name}: the disk is full; free some space, then go on with --resume")
        if "locked" in text:
            return StorageError(f"{self._name} is in use by another process; wait for it, or start a new run")
        if "unable to open" in text or "readonly" in text:
            return StorageError(f"{self._name} cannot be opened ({text}); choose another folder with --out")
        return self.damaged(text)

    def append(self, kind: str, trial: int, payload: Mapping[str, object], *, commit: bool) -> Any:
        """Add an event and return its payload as it will be read back.

        `commit` False leaves it to the next commit, or to `settle`. Raises TypeError for a payload that JSON
        cannot hold.
        """
        text, kept = json.dumps(payload), stored(payload)
        row = (time.time(), kind, trial, text if kept is payload else json.dumps(kept))
        try:
            self._connection.execute("INSERT INTO events (time, kind, trial, payload) VALUES (?, ?, ?, ?)", row)
        except sqlite3.DatabaseError as error:
            raise self._problem(error) from None
        self.settle(now=commit)
        return json.loads(text)

    def settle(self, *, now: bool = False) -> None:
        """Commit what waits for it since a second or more (`now`: since whenever), so that others can read it."""
        if not now and (time.monotonic() - self._committed <= _GROUP_SECONDS or not self._connection.in_transaction):
            return
        try:
            self._check_files()
            self._connection.commit()
        except sqlite3.DatabaseError as error:
            raise self._problem(error) from None
        self._committed = time.monotonic()

    def events(self) -> Iterator[tuple[str, int, Any]]:
        """(kind, trial, payload) in order."""
        try:
            for kind, trial, payload in self._connection.execute(
                "SELECT kind, trial, payload FROM events ORDER BY sequence"
            ):
                yield kind, trial, restored(json.loads(payload))
        except sqlite3.DatabaseError as error:
            raise self._problem(error) from None
        except ValueError as error:
            raise self.damaged(str(error)) from None

    def times(self) -> Iterator[tuple[float, str, int]]:
        """(seconds since the epoch, kind, trial) of every event in order: when it was written."""
        try:
            yield from self._connection.execute("SELECT time, kind, trial FROM events ORDER BY sequence")
        except sqlite3.DatabaseError as error:
            raise self._problem(error) from None

    def meta(self) -> dict[str, Any]:
        """What the study was made with; empty for a new one."""
        try:
            rows = self._connection.execute("SELECT key, value FROM meta").fetchall()
            return {key: restored(json.loads(value)) for key, value in rows}
        except sqlite3.DatabaseError as error:
            raise self._problem(error) from None
        except ValueError as error:
            raise self.damaged(str(error)) from None

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Record what the study is made with."""
        rows = [(key, json.dumps(stored(value))) for key, value in values.items()]
        try:
            self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
            self._connection.commit()
        except sqlite3.DatabaseError as error:
            raise self._problem(error) from None

    def close(self) -> None:
        """Commit what is pending and let go of the file; a second time does nothing."""
        if not self._let_go.alive:
            return
        try:
            self._connection.commit()
        except sqlite3.DatabaseError as error:
            raise self._problem(error) from None
        finally:
            self._let_go()


def _connect(path: Path | None, write: bool) -> sqlite3.Connection:
    if path is None:
        return sqlite3.connect(":memory:")
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"
    connection = sqlite3.connect(uri, uri=True, timeout=10.0)
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        connection.close()
        if write:
            raise
        # A folder that cannot be written can hold no reader's part of the log; nobody writes it either.
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    return connection


def _let_go(connection: sqlite3.Connection | None, lock: WriterLock | None) -> None:
    if connection is not None:
        connection.close()
    if lock is not None:
        lock.release()
