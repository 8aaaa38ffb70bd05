"""One writer to a study: a kernel lock on a file beside it, gone with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from modelopt_cli.core.errors import StorageError


class WriterLock:
    """Held from here to `release`. Raises StorageError when someone else holds it, or the folder is not writable.

    Not on the database itself: closing any descriptor of that file would drop SQLite's own locks on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}-lock")
        while True:
            self._descriptor = self._open(path)
            if self._is_current():
                return
            os.close(self._descriptor)  # its last holder removed the file between our opening and locking it

    def _open(self, path: Path) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written ({error.strerror}); choose another folder with --out"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StorageError(
                f"{path} is in use by another process, or by a Study of this one that was not closed; "
                "wait for it, close it, or choose another path"
            ) from None
        except OSError:
            pass  # a file system without locks: go on, as SQLite itself does there
        return descriptor

    def _is_current(self) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        return False

    def release(self) -> None:
        """Let go; the file goes too."""
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
