"""Records lie where Python's own reader finds them; whatever two readers could read in two ways is refused.

tests/models/test_hostile_containers.py has archives that somebody made on purpose.
"""

from __future__ import annotations

import io
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.core.zip_files import check, content, records, unpacked, without_checksums

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789/_-. é", min_size=1, max_size=20)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=2000), max_size=4)


def archive(contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, value in contents.items():
            file.writestr(name, value)
    return stream.getvalue()


def read(data: bytes) -> dict[str, bytes]:
    memory = memoryview(data)
    return {name: content(memory, record, "it") for name, record in records(memory, "it").items()}


@given(CONTENTS, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_records_are_those_that_were_written(contents: dict[str, bytes], method: int) -> None:
    data = memoryview(archive(contents, method))
    located = records(data, "it")
    assert {name: content(data, record, "it") for name, record in located.items()} == contents
    for name, record in located.items():
        check(data, record, "it")
        assert (record.size, record.checksum) == (len(contents[name]), zlib.crc32(contents[name]))


def test_pieces_are_the_content() -> None:
    value = bytes(range(256)) * 20_000  # more than one piece
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = memoryview(archive({"a": value}, method))
        record = records(data, "it")["a"]
        pieces = [bytes(piece) for piece in unpacked(data, record, "it")]
        assert len(pieces) > 1
        assert b"".join(pieces) == value


@given(st.data())
def test_one_changed_byte_of_a_record_is_noticed(data: st.DataObject) -> None:
    whole = bytearray(archive({"a": b"some content", "b": b"some more"}, zipfile.ZIP_STORED))
    record = records(memoryview(whole), "it")["a"]
    at = data.draw(st.integers(record.start, record.stop - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InputError, match="its record a is not what its checksum says"):
        check(memoryview(whole), record, "it")


@given(st.integers(1, 200))
def test_a_cut_off_archive_is_told(left: int) -> None:
    data = archive({"a": b"x" * 300})
    with pytest.raises((InputError, RefusedError), match=r"it is|it could|it asks|damaged"):
        read(data[: len(data) - left])


def test_something_before_or_behind_is_refused() -> None:
    data = archive({"a": b"content"})
    for odd in (b"before" + data, data + b"behind"):
        with pytest.raises((InputError, RefusedError)):
            read(odd)


def test_two_records_of_one_name_are_refused() -> None:
    with pytest.raises(RefusedError, match="two records of one name"):
        read(archive({"a": b"1", "A": b"2"}))


def test_archives_without_checksums_are_known() -> None:
    data = bytearray(archive({"a": b"content"}, zipfile.ZIP_STORED))
    assert not without_checksums(records(memoryview(data), "it"))
    assert without_checksums(records(memoryview(archive({"a": b""})), "it"))  # the checksum of nothing is 0
