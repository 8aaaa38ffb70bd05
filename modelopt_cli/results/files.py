"""Writing files whole or not at all: temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from modelopt_cli.core.errors import StorageError
from modelopt_cli.core.references import without_values

_UMASK = os.umask(0)
os.umask(_UMASK)


def write_whole(path: Path, write: Callable[[IO[bytes]], Any], *, durable: bool = True) -> None:
    """Let `write` fill a file that appears at `path` whole, or not at all; what stood there before stays until then.

    `durable` False skips the fsync: for files that may be lost in a power cut. Raises StorageError when the file cannot
    be written; any exception of `write` passes through. Either way nothing is left behind.
    """
    path = Path(path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise _storage_error(path, error) from None
    temporary = Path(name)
    try:
        try:
            with os.fdopen(descriptor, "wb") as stream:
                write(stream)
                stream.flush()
                os.fchmod(stream.fileno(), 0o666 & ~_UMASK)
                if durable:
                    os.fsync(stream.fileno())
            temporary.replace(path)
            if durable:
                _sync_folder(path.parent)
        except OSError as error:
            raise _storage_error(path, error) from None
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def link_or_copy(source: Path, path: Path) -> None:
    """Let `path` be the file `source`, by a second name where the file system has links, else by a copy; whole at once.

    Raises StorageError when it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.hardlink_to(source)
        temporary.replace(path)
        temporary.unlink(missing_ok=True)  # renaming to another name of the same file leaves both
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        write_whole(path, lambda stream: _copy(source, stream), durable=False)


def _copy(source: Path, stream: IO[bytes]) -> None:
    with source.open("rb") as content:
        shutil.copyfileobj(content, stream)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """UTF-8 text, whole or not at all; `durable` as for `write_whole`."""
    write_whole(path, lambda stream: stream.write(text.encode()), durable=durable)


def write_json(path: Path, content: Any, *, durable: bool = True) -> None:
    """Indented JSON in the order given, whole or not at all; NaN and infinity, which JSON cannot hold, become null.

    Values from the environment that an experiment refers to are left out.
    """
    write_text(path, json.dumps(_finite(without_values(content)), indent=2, ensure_ascii=False) + "\n", durable=durable)


def _finite(content: Any) -> Any:
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def _storage_error(path: Path, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path} cannot be written: the disk is full; free some space and try again")
    return StorageError(f"{path} cannot be written ({error.strerror}); choose another place, or make it writable")
