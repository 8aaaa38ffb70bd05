"""Looking into a pickle or an archive of torch's without reading it: what it claims, and what it would call."""

from __future__ import annotations

import os
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from modelopt_cli.core.errors import InputError, RefusedError

_HARMLESS = ("torch", "collections OrderedDict", "_codecs encode")


def check_claims(stream: IO[bytes], path: str | Path) -> None:
    """Refuse an archive whose entries would unpack to more than the file holds (torch stores them uncompressed).

    Raises RefusedError for such an archive, InputError for an empty file. Leaves the stream at its start.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0:
        raise InputError(f"{path} is empty")
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        if claimed > size:
            raise RefusedError(f"{path} claims to hold {claimed:,} bytes in a file of {size:,}; it is refused")
    stream.seek(0)


def names_foreign_code(path: Path) -> bool:
    """True when the pickle in `path` names something to call that is not torch's own. Nothing is run to find out."""
    try:
        return any(not name.startswith(_HARMLESS) for name in _globals(_pickle_in(path)))
    except (OSError, ValueError, IndexError, KeyError, zipfile.BadZipFile):
        return False  # no pickle at all


def _pickle_in(path: Path) -> bytes:
    """The file's own pickle, or the `data.pkl` of torch's archive."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        return archive.read(name)


def _globals(data: bytes) -> Iterator[str]:
    """`module name` of every global that the pickle names, as far as it can be parsed."""
    texts: list[str] = []
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif operation.name == "STACK_GLOBAL":
            yield " ".join(texts[-2:])
        elif "UNICODE" in operation.name or "STRING" in operation.name:
            texts.append(str(argument))
