"""Kinds of files are known by the bytes that the programs which write them put first."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from PIL import Image

from modelopt_cli.core.signatures import FileKind, kind_among


def archive(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, b"content")
    return stream.getvalue()


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(tarfile.TarInfo("PAR1.txt"))
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def image(form: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2)).save(stream, form)
    return stream.getvalue()


def table(write: str) -> bytes:
    stream = io.BytesIO()
    rows = pa.table({"a": [1, 2]})
    if write == "parquet":
        pyarrow.parquet.write_table(rows, stream)
    else:
        pyarrow.feather.write_feather(rows, stream, version=2)
    return stream.getvalue()


def database(folder: Path) -> bytes:
    path = folder / "data.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("create table t (a)")
    connection.commit()
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (FileKind.GZIP, gzip.compress(b"a,b")),
        (FileKind.BZIP2, bz2.compress(b"a,b")),
        (FileKind.XZ, lzma.compress(b"a,b")),
        (FileKind.ZIP, archive(["a.csv"])),
        (FileKind.EMPTY_ZIP, archive([])),
        (FileKind.NPY, array()),
        (FileKind.PNG, image("PNG")),
        (FileKind.JPEG, image("JPEG")),
        (FileKind.GIF, image("GIF")),
        (FileKind.PARQUET, table("parquet")),
        (FileKind.ARROW, table("arrow")),
        *((FileKind.PICKLE, pickle.dumps([1], protocol)) for protocol in (2, 3, 4, 5)),
    ],
    ids=lambda value: value.name if isinstance(value, FileKind) else "",
)
def test_what_programs_write_is_known(kind: FileKind, content: bytes) -> None:
    assert [known for known in FileKind if known.matches(content)] == [kind]


def test_a_database_and_a_program_are_known(tmp_path: Path) -> None:
    assert FileKind.SQLITE.matches(database(tmp_path))
    assert FileKind.ELF.matches(Path("/proc/self/exe").read_bytes()[:16])


def test_a_signature_may_stand_further_in_the_file() -> None:
    assert FileKind.TAR.matches(tar())
    assert FileKind.TFLITE.matches(b"\x1c\0\0\0TFL3")
    assert not FileKind.TFLITE.matches(b"TFL3")


def test_the_first_of_the_kinds_asked_for_counts() -> None:
    both = tar()  # its first member is called as a parquet file begins
    assert kind_among([FileKind.PARQUET, FileKind.TAR], both) is FileKind.PARQUET
    assert kind_among([FileKind.TAR, FileKind.PARQUET], both) is FileKind.TAR
    assert kind_among([FileKind.GZIP], both) is None


def test_no_kind_is_another_by_its_name() -> None:
    """Two members of an Enum with one value would be one member with two names."""
    assert len(FileKind.__members__) == len(FileKind)


def test_no_signature_at_the_start_begins_another() -> None:
    starts = [start for kind in FileKind for start in kind.signatures if kind.offset == 0]
    assert not [(one, other) for one in starts for other in starts if one != other and other.startswith(one)]


@pytest.mark.parametrize("head", [b"", b"P", b"a,b\n1,2\n"])
def test_short_files_and_text_are_of_no_kind(head: bytes) -> None:
    assert kind_among(FileKind, head) is None
