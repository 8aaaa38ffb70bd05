"""The study's store: an append-only log of events in SQLite, from which the trials are rebuilt.

One writer; others may read while it writes (WAL). What is committed survives a power cut (synchronous=FULL). Asks and
tells commit at once, reports of a curve in groups, so that a kill loses at most some reports.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelopt_cli.core.errors import InputError, StorageError

APPLICATION_ID = 0x6D6F7074  # "mopt"
VERSION = 1
_GROUP_SECONDS = 1.0  # reports are committed at least this often

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
    """The log at `path`, or in memory. Raises StorageError for a file that is damaged or no store of ours."""

    def __init__(self, path: Path | None, *, write: bool = True) -> None:
        self._path = path
        self._name = str(path) if path is not None else "the study in memory"
        if not write and (path is None or not path.is_file()):
            raise InputError(f"{self._name} does not exist; name a run directory that holds a study.sqlite")
        try:
            self._connection = self._connect(write)
            self._prepare(write)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None
        self._committed = time.monotonic()

    def _connect(self, write: bool) -> sqlite3.Connection:
        if self._path is None:
            return sqlite3.connect(":memory:")
        mode = "rwc" if write else "ro"
        return sqlite3.connect(f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, timeout=10.0)

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
                f"{self._name} is no study of this version of modelopt (application {application:#x}, version {version}); "
                "name another path, or start a new run"
            )
        if write:
            self._connection.execute("PRAGMA synchronous=FULL")
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StorageError(f"{self._name} is damaged ({verdict}); restore it from a copy, or start a new run")

    def _damaged(self, error: sqlite3.DatabaseError) -> StorageError:
        text = str(error)
        if "full" in text:
            return StorageError(f"{self._name}: the disk is full; free some space, then go on with --resume")
        if "locked" in text:
            return StorageError(f"{self._name} is in use by another process; wait for it, or start a new run")
        if "unable to open" in text or "readonly" in text:
            return StorageError(f"{self._name} cannot be written ({text}); choose another folder with --out")
        return StorageError(f"{self._name} is damaged ({text}); restore it from a copy, or start a new run")

    def append(self, kind: str, trial: int, payload: dict[str, Any], *, commit: bool) -> None:
        """Add an event; `commit` False leaves it to the next commit, at most a second later when events keep coming."""
        row = (time.time(), kind, trial, json.dumps(payload))
        try:
            self._connection.execute("INSERT INTO events (time, kind, trial, payload) VALUES (?, ?, ?, ?)", row)
            if commit or time.monotonic() - self._committed > _GROUP_SECONDS:
                self._connection.commit()
                self._committed = time.monotonic()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

    def events(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """(kind, trial, payload) in order."""
        try:
            for kind, trial, payload in self._connection.execute(
                "SELECT kind, trial, payload FROM events ORDER BY sequence"
            ):
                yield kind, trial, json.loads(payload)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise self._damaged(sqlite3.DatabaseError(str(error))) from None

    def meta(self) -> dict[str, Any]:
        """What the study was made with."""
        try:
            rows = self._connection.execute("SELECT key, value FROM meta").fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None
        return {key: json.loads(value) for key, value in rows}

    def set_meta(self, values: dict[str, Any]) -> None:
        """Record what the study is made with."""
        try:
            self._connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, json.dumps(value)) for key, value in values.items()]
            )
            self._connection.commit()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

    def close(self) -> None:
        """Commit what is pending and let go of the file."""
        try:
            self._connection.commit()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None
        finally:
            self._connection.close()
