"""Text tables as streams, whatever they are packed with: what is no text is named, and no bomb is unpacked.

Packed files are known by their first bytes, not by their names. What comes out is counted: a table is packed 3 to 50
to 1, so one that gives 500 times what was read of it, or more than there is memory, is refused on the way.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.core.signatures import FileKind, kind_among
from modelopt_cli.data.file_kinds import (
    HEAD,
    encoding_by_marks,
    office_kind,
    office_remedy,
    refuse_other_kinds,
)
from modelopt_cli.data.files import check_memory

PACKED = (".gz", ".zip", ".zst", ".bz2", ".xz")
"""Endings that say how a file is packed; the one before says what is in it."""

_FREE = 16 * 2**20  # bytes that any file may unpack to
_RATIO = 500  # ... and above that, so many times what was read
_LINE = 64 * 2**20  # bytes without a line's end
_CHUNK = 1024  # packed bytes that zstd is given at a time: each may stand for 32 KiB
_PACKINGS = {
    FileKind.GZIP: "gzip",
    FileKind.ZIP: "zip",
    FileKind.EMPTY_ZIP: "zip",
    FileKind.ZSTANDARD: "zstd",
    FileKind.BZIP2: "bz2",
    FileKind.XZ: "xz",
}
_ENDS = (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError)


def table_suffix(path: Path) -> str:
    """The ending that says what kind of table it is: `.csv` of `a.csv.gz`, of a zip archive its member's."""
    suffix = path.suffix.lower()
    if suffix not in PACKED:
        return suffix
    inner = Path(path.stem).suffix.lower()
    if suffix == ".zip" and not inner and zipfile.is_zipfile(path):
        with reading(path), zipfile.ZipFile(path) as archive:
            return Path(_member(archive, path).filename).suffix.lower()
    return inner


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what unpacking raises into InputError."""
    try:
        yield
    except _ENDS as error:
        raise InputError(f"'{path}' is damaged or cut off ({error}); copy or download it again") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, unpacked where it is packed. Raises InputError or RefusedError, also while it is read."""
    with reading(path), path.open("rb") as file, _unpacked(file, path) as (source, packed):
        yield io.BufferedReader(_Counted(source, path, file.tell if packed else None), 2**20)


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[IO[str]]:
    """The file as text with its own line ends. Errors of the encoding come from whoever reads."""
    with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding, newline="") as text:
        yield text


def check_text(path: Path, encoding: str) -> str:
    """The codec to read it with: `encoding`, but for what a byte order mark asks for.

    Raises InputError where the file is no text table in `encoding`, naming what it is and what to do.
    """
    head = head_of(path)
    again = _packing(head) if is_packed(path) else None
    if again is not None:
        raise InputError(f"'{path}' is packed twice ({again} is in it); unpack it once")
    refuse_other_kinds(head, f"'{path}'")
    asked, marked = codec_of(encoding, path), encoding_by_marks(head)
    if marked is not None and asked != marked and not (marked.startswith(asked) or asked.startswith(marked)):
        raise InputError(
            f"'{path}' is {marked[:6].upper()} text, not {encoding}; write 'encoding: {marked}', or save it as UTF-8"
        )
    return marked or ("utf-8-sig" if asked == "utf-8" else asked)


def codec_of(encoding: str, path: Path) -> str:
    """Python's own name of an encoding. Raises InputError where there is none of this name."""
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise InputError(
            f"'{path}' cannot be read as '{encoding}', which is no text encoding; set 'encoding' to one, e.g. utf-8, "
            "utf-16, cp1252 or latin-1"
        ) from None


def head_of(path: Path) -> bytes:
    """The first bytes of the unpacked content."""
    with open_bytes(path) as stream:
        return stream.read(HEAD)


def is_packed(path: Path) -> bool:
    """Whether the file is packed in a way that is read."""
    with reading(path), path.open("rb") as file:
        return _packing(file.read(6)) is not None


def _packing(start: bytes) -> str | None:
    kind = kind_among(_PACKINGS, start)
    return None if kind is None else _PACKINGS[kind]


@contextmanager
def _unpacked(file: IO[bytes], path: Path) -> Iterator[tuple[Any, bool]]:
    """(stream of the content, whether it was packed)."""
    name = _packing(file.read(6))
    file.seek(0)
    if name is None:
        yield file, False
    elif name == "zip":
        with zipfile.ZipFile(file) as archive, archive.open(_member(archive, path)) as member:
            yield member, True
    elif name == "zstd":
        yield _Zstandard(file), True
    else:
        unpacking: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
        with unpacking[name](file) as stream:
            yield stream, True


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file in the archive. Raises InputError for several, and for what is another kind of file."""
    kind = office_kind(archive.namelist())
    if kind is not None:
        raise InputError(f"'{path}' is {kind}, no text; {office_remedy(kind)}")
    files = [
        info
        for info in archive.infolist()
        if not info.is_dir()
        and not info.filename.startswith("__MACOSX/")
        and not Path(info.filename).name.startswith(".")
    ]
    if len(files) != 1:
        listed = ", ".join(repr(info.filename)[:60] for info in files[:5]) + (", ..." if len(files) > 5 else "")
        has = f"has {len(files)} files ({listed})" if files else "is empty"
        raise InputError(f"'{path}' is a zip archive that {has}, but one table is read; unpack it first")
    if files[0].flag_bits & 1:
        raise InputError(f"'{path}' is a zip archive with a password; unpack it first")
    return files[0]


class _Counted(io.RawIOBase):
    """Passes bytes on, and refuses what no table would give."""

    def __init__(self, source: Any, path: Path, taken: Callable[[], int] | None) -> None:
        """`taken`: how much of the packed file has been read so far; None where it is not packed."""
        self._source, self._path, self._taken = source, path, taken
        self._total = self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except (*_ENDS, MemoryError) as error:
            raise InputError(f"'{self._path}' is damaged or cut off ({error}); copy or download it again") from None
        buffer[: len(data)] = data
        self._count(data)
        return len(data)

    def _count(self, data: bytes) -> None:
        self._total += len(data)
        end = data.rfind(b"\n")
        self._line = self._line + len(data) if end < 0 else len(data) - end - 1
        if self._line > _LINE:
            raise RefusedError(f"'{self._path}' has a line of more than {_LINE:,} bytes, so it is no table")
        if self._taken is None:
            return
        if self._total > _FREE + _RATIO * self._taken():
            raise RefusedError(
                f"'{self._path}' unpacks to more than {_RATIO} times its size, as no table does; unpack it if it is one"
            )
        if self._total > _FREE and self._total % (64 * 2**20) < len(data):
            check_memory(self._total, f"'{self._path}', unpacked,")


class _Zstandard:
    """Reads zstd frames one after another. Unlike the package's own stream, it knows a file that was cut off."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file, self._new = file, zstandard.ZstdDecompressor().decompressobj
        self._error = zstandard.ZstdError
        self._frame = self._new()
        self._ready = bytearray()
        self._begun = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while not self._ready:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._begun = self._new(), False
            packed = packed or self._file.read(_CHUNK)
            if not packed:
                if self._begun:
                    raise EOFError("the last frame does not end")
                return b""
            self._begun = True
            try:
                self._ready += self._frame.decompress(packed)
            except self._error as error:
                raise EOFError(str(error)) from None
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken
