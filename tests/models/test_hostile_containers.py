"""Containers that say one thing to the one who looks and another to the one who reads, or that claim what is not there.

Each is refused (5) or damaged (2), quickly and without taking memory: what is read runs in a limited address space.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import modelopt_cli
from modelopt_cli.core import zip_files
from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.files.archives import read_pickle
from modelopt_cli.models.files.estimator_archives import check_estimator

SECONDS = 4.0  # of computing
PROTO, STOP = b"\x80\x02", b"."


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def archive_of(steps: bytes) -> bytes:
    """What torch.save writes, with another pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (("data.pkl", steps), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def older_of(steps: bytes) -> bytes:
    """What torch.save wrote before it wrote archives."""
    magic, protocol, system = (pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return magic + protocol + system + steps + pickle.dumps([], 2)


def rejected(path: Path, *, match: str | None = None) -> int:
    """The exit code; within the time, and with less than 100 MB of Python's memory."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises((InputError, RefusedError), match=match) as caught:
            read_pickle(path)
        assert time.process_time() - started < SECONDS
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000, "one line that can be read"
    return caught.value.exit_code


HUGE = 8 << 30
LENGTHS = {
    "BYTEARRAY8": b"\x96" + struct.pack("<Q", HUGE),
    "BINBYTES8": b"\x8e" + struct.pack("<Q", HUGE),
    "BINUNICODE8": b"\x8d" + struct.pack("<Q", HUGE),
    "BINUNICODE8 of all": b"\x8d" + b"\xff" * 8,
    "FRAME": b"\x95" + struct.pack("<Q", HUGE),
    "BINBYTES": b"B" + struct.pack("<I", 0xFFFFFFFF),
    "BINUNICODE": b"X" + struct.pack("<I", 0xFFFFFFFF),
    "BINSTRING": b"T" + struct.pack("<i", 0x7FFFFFFF),
    "LONG4": b"\x8b" + struct.pack("<i", 0x7FFFFFFF),
    "SHORT_BINBYTES": b"C\xff",
    "SHORT_BINUNICODE": b"\x8c\xff",
    "LONG1": b"\x8a\xff",
    "BINPUT": b"]r" + struct.pack("<I", 0xFFFFFFFE) + b"2",
}


@pytest.mark.parametrize("wrap", [bytes, archive_of, older_of])
@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_are_held_against_what_is_left(tmp_path: Path, name: str, wrap: Callable[[bytes], bytes]) -> None:
    for proto in (b"\x80\x02", b"\x80\x05"):
        (tmp_path / "m.pt").write_bytes(wrap(proto + LENGTHS[name] + b"x."))
        assert rejected(tmp_path / "m.pt") in (2, 5)


def test_eight_gigabytes_in_twelve_bytes(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"x.")
    assert rejected(tmp_path / "m.pt", match="asks for memory that it does not hold") == 5


@pytest.mark.parametrize("call", [b"c_codecs\nencode\n", b"cbuiltins\nbytearray\n", b"c__builtin__\nbytearray\n"])
@pytest.mark.parametrize("codec", ["punycode", "idna", "rot13", "zlib_codec", "utf-8"])
@pytest.mark.parametrize("wrap", [bytes, archive_of, older_of])
def test_one_codec_only(tmp_path: Path, call: bytes, codec: str, wrap: Callable[[bytes], bytes]) -> None:
    letters = "".join(chr(0x400 + number % 5000) for number in range(50_000))
    (tmp_path / "m.pt").write_bytes(wrap(PROTO + call + b"(" + text(letters) + text(codec) + b"tR."))
    assert rejected(tmp_path / "m.pt", match=codec) == 5


def test_bytes_are_read(tmp_path: Path) -> None:
    content = {"bytes": b"\xff\x00a", "array": bytearray(b"\xfe\x01"), "empty": b"", "w": torch.ones(2)}
    for zipped in (True, False):
        torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        loaded = read_pickle(tmp_path / "m.pt")
        assert loaded["array"] == bytearray(b"\xfe\x01")
        assert loaded["bytes"] == b"\xff\x00a"


BOMBS = {
    "the same list twice, 60 times over": b"]" + b"".join(b"2\x86" for _ in range(60)),
    "keys that take for ever": b"}K\x01" + b"2\x86" * 60 + b"K\x01s",
    "elements that take for ever": b"cbuiltins\nset\n(]K\x01" + b"2\x86" * 60 + b"atR",
    "counted that take for ever": b"ccollections\nCounter\n(]K\x01" + b"2\x86" * 60 + b"atR",
    "ordered that take for ever": b"ccollections\nOrderedDict\n)RK\x01" + b"2\x86" * 60 + b"K\x01s",
    "depth": b"]" * 100_000 + b"a" * 99_999,
    "itself": b"]q\x00h\x00a",
    "copies without end": b"2" * 6_000_000,
    "containers without end": b"}" * 6_000_000,
    "names without end": b"".join(b"ctorch\nx%d\n" % number for number in range(20_000)),
    "a tensor of lists": b"ctorch\nTensor\n(]K\x01" + b"2\x86" * 30 + b"atR",
    "a number without end": b"L" + b"9" * 1_000_000 + b"L\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [archive_of, older_of])
@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_grow(tmp_path: Path, name: str, wrap: Callable[[bytes], bytes]) -> None:
    (tmp_path / "m.pt").write_bytes(wrap(PROTO + BOMBS[name] + STOP))
    started = time.process_time()
    with pytest.raises((InputError, RefusedError)):
        read_pickle(tmp_path / "m.pt")
    assert time.process_time() - started < 2 * SECONDS


def end(raw: bytes) -> int:
    return raw.rindex(b"PK\x05\x06")


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def by_zipfile(records: list[tuple[str, bytes]], how: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", how) as archive:
        warnings.simplefilter("ignore")
        for name, content in records:
            archive.writestr(name, content)
    return stream.getvalue()


def two_directories(first: bytes, second: bytes) -> bytes:
    """The end record has the offset of the first archive's directory, and stands behind the second one's."""
    size, offset = struct.unpack("<2L", second[end(second) + 12 : end(second) + 20])
    body, directory, last = second[:offset], bytearray(second[offset : offset + size]), bytearray(second[end(second) :])
    start = 0
    while (start := directory.find(b"PK\x01\x02", start)) >= 0:
        start += 46
    last[16:20] = struct.pack("<L", struct.unpack("<L", first[end(first) + 16 : end(first) + 20])[0])
    return first[: end(first)] + body + bytes(directory) + bytes(last)


SMALL = [("archive/data.pkl", b"\x80\x02}."), ("archive/version", b"3\n"), ("archive/data/0", b"1234")]


def archives() -> dict[str, bytes]:
    plain, large = by_zipfile(SMALL), by_zipfile(SMALL, zipfile.ZIP_DEFLATED)
    sound = saved({"w": torch.ones(3)})
    overlapping = bytearray(plain)
    entries = [start for start in range(len(plain)) if plain[start : start + 4] == b"PK\x01\x02"]
    overlapping[entries[2] + 42 : entries[2] + 46] = overlapping[entries[1] + 42 : entries[1] + 46]
    commented = bytearray(plain)
    commented[-2:] = struct.pack("<H", 4)
    return {
        "two directories": two_directories(large, plain),
        "something before": b"PK\x03\x04" + plain,
        "something before that begins as an archive": large[: end(large)] + plain,
        "something behind": plain + b"1",
        "an archive behind": sound + plain,
        "a comment": bytes(commented) + b"PK\x05\x06",
        "one name twice": by_zipfile([*SMALL, SMALL[2]]),
        "one name in two cases": by_zipfile([*SMALL, ("archive/DATA/0", b"")]),
        "one start twice": bytes(overlapping),
        "a name with NUL": plain.replace(b"archive/version", b"archive\0version"),
        "a gap": plain[: plain.index(b"PK\x01\x02")] + b"gap" + plain[plain.index(b"PK\x01\x02") :],
        "packed": by_zipfile([*SMALL, ("archive/data/1", bytes(10_000_000))], zipfile.ZIP_DEFLATED),
        "packed otherwise": by_zipfile(SMALL, zipfile.ZIP_BZIP2),
        "truncated": sound[:-30],
        "without an end": sound[: end(sound)],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", archives())
def test_one_directory_and_no_gap(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.pt").write_bytes(archives()[name])
    assert rejected(tmp_path / "m.pt") in (2, 5)


def test_what_torch_and_zipfile_write_is_fine(tmp_path: Path) -> None:
    for raw in (by_zipfile(SMALL), saved({}), saved({"w": torch.ones(3), "e": torch.ones(0)})):
        (tmp_path / "m.pt").write_bytes(raw)
        assert isinstance(read_pickle(tmp_path / "m.pt"), dict)
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            listed = zip_files.records(memoryview(raw), "it")
            assert [entry.filename for entry in archive.infolist()] == list(listed)
            for entry in archive.infolist():
                record = listed[entry.filename]
                assert archive.read(entry) == raw[record.start : record.stop]


def test_archives_of_many_kinds_are_read() -> None:
    """Streams without seek, 64-bit sizes, packed records: as Python writes them."""

    class Forward(io.RawIOBase):
        def __init__(self) -> None:
            self.raw = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.raw += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for force in (True, False):
            stream = Forward()
            with zipfile.ZipFile(stream, "w", how) as archive, archive.open("a", "w", force_zip64=force) as record:
                record.write(b"content" * 100)
            listed = zip_files.records(memoryview(stream.raw), "it")
            assert zip_files.content(memoryview(stream.raw), listed["a"], "it") == b"content" * 100
            zip_files.check(memoryview(stream.raw), listed["a"], "it")
            assert listed["a"].checksum == zlib.crc32(b"content" * 100)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("records", "rule"),
    [
        ([("schema.json", b"{}"), ("a.npy", b"")], "damaged"),
        ([("a.npy", b"\x93NUMPY\x01\x00")], "damaged"),
        ([("a.npy", b"HEAD(10**12,)")], "memory that it does not hold"),
        ([("a.npy", b"HEAD(0, 10**30)")], "memory that it does not hold"),
        ([("a.npz", b"ZIP")], "memory that it does not hold"),
        ([("a.npz", b"PK\x03\x04")], "truncated"),
    ],
)
def test_archives_in_archives(records: list[tuple[str, bytes]], rule: str) -> None:
    def made(content: bytes) -> bytes:
        if content.startswith(b"HEAD"):
            stream = io.BytesIO()
            header = {"descr": "<f8", "fortran_order": False, "shape": eval(content[4:])}
            np.lib.format.write_array_header_1_0(stream, header)
            return stream.getvalue()
        if content == b"ZIP":
            return by_zipfile([("x.npy", bytes(300 << 20))], zipfile.ZIP_DEFLATED)
        return content

    raw = by_zipfile([(name, made(content)) for name, content in records])
    with pytest.raises((InputError, RefusedError), match=rule):
        check_estimator(raw, "the estimator")


def test_an_estimator_that_unpacks(tmp_path: Path) -> None:
    bomb = by_zipfile([("schema.json", b"{}"), ("a.npy", bytes(50_000_000))], zipfile.ZIP_DEFLATED)
    with pytest.raises(RefusedError, match="unpack to 50,"):
        check_estimator(bomb, "the estimator")


@pytest.mark.slow
def test_the_command_line_in_a_limited_address_space(tmp_path: Path) -> None:
    """The whole of inspect and predict, with room for torch and little more."""
    (tmp_path / "m.pt").write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b"x.")
    code = (
        "import resource, sys, torch;"
        "from modelopt_cli.models.files import checkpoints;"
        "from modelopt_cli.models.files.state_files import open_state\n"
        "held = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 300_000_000,) * 2)\n"
        "for read in (open_state, checkpoints.load):\n"
        "    try: read('m.pt')\n"
        "    except Exception as error: print(type(error).__name__, error.exit_code); print(error, file=sys.stderr)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(modelopt_cli.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout.split() == ["RefusedError", "5"] * 2, done.stderr


def test_load_is_covered(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(archives()["two directories"])
    with pytest.raises(RefusedError, match="read in two ways"):
        checkpoints.load(tmp_path / "m.pt")
