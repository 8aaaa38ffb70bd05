"""The first bytes by which kinds of files are known, as their formats' specifications have them.

Who reads a file and finds another kind than it wants says what the file is, and what to do about it: the words and
the remedies stand there (data/file_kinds.py for tables, models/files/kinds.py for weights), the bytes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class FileKind(Enum):
    """A kind of file: where its signature stands, and its bytes (any of these, where a kind has several)."""

    # Packed files and archives
    GZIP = 0, b"\x1f\x8b"
    BZIP2 = 0, b"BZh"
    XZ = 0, b"\xfd7zXZ\x00"
    ZSTANDARD = 0, b"\x28\xb5\x2f\xfd"
    LZ4 = 0, b"\x04\x22\x4d\x18"
    COMPRESS = 0, b"\x1f\x9d"
    ZIP = 0, b"PK\x03\x04"
    EMPTY_ZIP = 0, b"PK\x05\x06"
    SEVEN_ZIP = 0, b"7z\xbc\xaf\x27\x1c"
    RAR = 0, b"Rar!"
    TAR = 257, b"ustar"
    # Tables and arrays
    PARQUET = 0, b"PAR1"
    ARROW = 0, b"ARROW1"
    FEATHER = 0, b"FEA1"
    ORC = 0, b"ORC"
    AVRO = 0, b"Obj\x01"
    HDF5 = 0, b"\x89HDF\r\n\x1a\n"
    NPY = 0, b"\x93NUMPY"
    SQLITE = 0, b"SQLite format 3\x00"
    MATLAB = 0, b"MATLAB 5.0 MAT-file"
    SPSS = 0, b"$FL2"
    STATA = 0, b"<stata_dta>"
    OLD_OFFICE = 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    PICKLE = 0, b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"
    # Models
    GGUF = 0, b"GGUF"
    TFLITE = 4, b"TFL3"
    NCNN_PARAM = 0, b"7767517\n"
    NCNN_BIN = 0, b"\x47\x6b\x30\x01"
    # Everything else
    PDF = 0, b"%PDF"
    RTF = 0, b"{\\rtf"
    PNG = 0, b"\x89PNG"
    JPEG = 0, b"\xff\xd8\xff"
    GIF = 0, b"GIF8"
    ELF = 0, b"\x7fELF"
    GIT_LFS = 0, b"version https://git-lfs"

    def __init__(self, offset: int, *signatures: bytes) -> None:
        self.offset, self.signatures = offset, signatures

    def matches(self, head: bytes) -> bool:
        """Whether a file that begins with `head` is of this kind."""
        return head.startswith(self.signatures, self.offset)


def kind_among(kinds: Iterable[FileKind], head: bytes) -> FileKind | None:
    """The first of `kinds` that a file which begins with `head` is of."""
    return next((kind for kind in kinds if kind.matches(head)), None)
