"""What all readers of files need: a file that is there, a hash of it, and no more memory than there is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import InputError, RefusedError, did_you_mean

if TYPE_CHECKING:
    import numpy as np


def existing(path: str | Path, kind: str = "file") -> Path:
    """`path`, which is there and of that kind (file | folder). Raises InputError with the nearest name."""
    absolute = Path(path).expanduser()
    right = absolute.is_file() if kind == "file" else absolute.is_dir()
    if right:
        return absolute
    if absolute.exists():
        raise InputError(f"'{absolute}' is {'a folder' if absolute.is_dir() else 'a file'}, but must be a {kind}")
    near = ""
    if absolute.parent.is_dir():
        near = did_you_mean(absolute.name, (item.name for item in absolute.parent.iterdir()))
    elif str(absolute.parent) != ".":
        near = f" Its folder '{absolute.parent}' does not exist either."
    raise InputError(f"there is no {kind} '{absolute}'.{near}")


def read_bytes(path: Path) -> bytes:
    """The whole file. Raises InputError where it is not readable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None


def hash_file(path: Path) -> str:
    """SHA-256 of the content, hex. Raises InputError where it is not readable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None


def hash_arrays(*arrays: np.ndarray | str) -> str:
    """SHA-256 of types, shapes and contents (strings as they are), hex."""
    import numpy as np

    digest = hashlib.sha256()
    for array in arrays:
        if isinstance(array, str):
            digest.update(array.encode() + b"\0")
            continue
        digest.update(f"{array.dtype}{array.shape}".encode())
        if array.dtype == object:
            digest.update("\0".join(map(str, array.ravel())).encode())
        else:
            digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def check_memory(size: int, what: str) -> None:
    """Raises RefusedError when `size` bytes are more than the memory that is available now."""
    import psutil

    available = psutil.virtual_memory().available
    if size > available:
        raise RefusedError(
            f"{what} asks for {size / 2**30:,.1f} GiB of memory, but only {available / 2**30:,.1f} GiB are available"
        )
