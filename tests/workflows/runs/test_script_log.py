"""The log of a script: whole while it is short, its two ends when it is long, and never a trial's end."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from modelopt_cli.core import references
from modelopt_cli.workflows.runs.script_log import HEAD, TAIL, ScriptLog

MARK = re.compile(rb"--- modelopt: (\d+) bytes are left out here ---\n")


def lines(count: int, start: int = 0) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(start, start + count))


def test_all_is_kept_in_order(tmp_path: Path) -> None:
    log = ScriptLog(tmp_path / "logs" / "3.log")
    log.write(1, b"one\ntw")
    log.write(2, b"warn")
    log.write(1, b"o\n\xff\xfe\0\n")
    log.write(2, b"ing\r50%\r")
    log.write(1, b"no end")
    log.close()
    assert (tmp_path / "logs" / "3.log").read_bytes() == b"one\ntwo\n\xff\xfe\0\nwarning\r50%\rno end"


def test_what_is_not_ended_is_written_after_a_while(tmp_path: Path) -> None:
    log = ScriptLog(tmp_path / "a.log")
    log.write(1, b"Password: ")
    assert (tmp_path / "a.log").read_bytes() == b""
    log.flush()
    assert (tmp_path / "a.log").read_bytes() == b"Password: "
    log.write(2, b"Traceback\n")
    log.close()
    assert (tmp_path / "a.log").read_bytes() == b"Password: \nTraceback\n"


@pytest.mark.parametrize("chunk", [7, 1000, 65_536])
def test_of_a_long_one_both_ends_are_kept(tmp_path: Path, chunk: int) -> None:
    content = lines(20_000)
    log = ScriptLog(tmp_path / "a.log", head=5_000, tail=10_000)
    for start in range(0, len(content), chunk):
        log.write(1, content[start : start + chunk])
        assert (tmp_path / "a.log").stat().st_size < 5_000 + 2 * 10_000 + 100
    log.close()
    kept = (tmp_path / "a.log").read_bytes()
    (match,) = MARK.finditer(kept)
    before, after = kept[: match.start()], kept[match.end() :]
    assert content.startswith(before)
    assert content.endswith(after)
    assert 4_900 < len(before) <= 5_000
    assert 9_900 < len(after) <= 20_000
    assert before.endswith(b"\n")
    assert after.startswith(b"line ")
    assert int(match[1]) == len(content) - len(before) - len(after)


def test_one_line_without_an_end_is_bounded_too(tmp_path: Path) -> None:
    log = ScriptLog(tmp_path / "a.log")
    for _ in range(64):
        log.write(1, b"x" * 65_536)
    log.write(1, b"\nlast\n")
    log.close()
    kept = (tmp_path / "a.log").read_bytes()
    assert HEAD + TAIL < len(kept) < HEAD + 2 * TAIL + 200
    assert kept.endswith(b"xxx\nlast\n")
    (match,) = MARK.finditer(kept)
    assert int(match[1]) + len(kept) - len(match[0]) - 1 == 64 * 65_536 + 6  # a line feed before the mark


def test_random_pieces_are_all_accounted_for(tmp_path: Path) -> None:
    draw = random.Random(0)
    log, written = ScriptLog(tmp_path / "a.log", head=300, tail=500), b""
    for _ in range(2_000):
        piece = draw.randbytes(draw.randrange(1, 90)).replace(b"\r", b"\n")
        written += piece
        log.write(1, piece)
    log.close()
    kept = (tmp_path / "a.log").read_bytes()
    (match,) = MARK.finditer(kept)
    after = kept[match.end() :]
    assert written.endswith(after)
    before = kept[: match.start()]
    before = before if written.startswith(before) else before[:-1]
    assert written.startswith(before)
    assert int(match[1]) == len(written) - len(before) - len(after)


def test_a_trial_that_is_begun_again_goes_on_in_its_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for start in (0, 5_000):
        log = ScriptLog(path, head=500, tail=1_000)
        log.write(1, lines(5_000, start))
        log.close()
    kept = path.read_bytes()
    assert len(MARK.findall(kept)) == 1
    assert kept.startswith(b"line 0\n")
    assert kept.endswith(b"line 9999\n")
    log = ScriptLog(path)
    log.write(1, b"third\n")
    log.close()
    assert re.search(rb"line 9999\n\n--- modelopt: the trial was begun again, [^\n]* ---\nthird\n$", path.read_bytes())


def test_a_script_that_empties_its_log_or_writes_into_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = ScriptLog(path)
    log.write(1, b"before\n")
    path.write_bytes(b"")
    log.write(1, b"after\n")
    with path.open("ab") as stream:
        stream.write(b"its own\n")
    log.write(1, b"and on\n")
    log.close()
    assert path.read_bytes() == b"after\nits own\nand on\n"


def test_values_from_the_environment_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_known", {"TOKEN": "s3cret-value"})
    log = ScriptLog(tmp_path / "a.log")
    log.write(1, b"token s3cr")
    log.write(1, b"et-value\n")
    long = b"y" * 65_530 + b"s3cret-value"
    for start in range(0, len(long), 65_535):
        log.write(1, long[start : start + 65_535])
    log.close()
    kept = (tmp_path / "a.log").read_bytes()
    assert b"s3cr" not in kept
    assert kept.count(b"${TOKEN}") == 2


@pytest.mark.parametrize("what", ["folder", "fifo", "link"])
def test_what_stands_in_its_place_is_no_matter(tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "a.log", tmp_path / "precious"
    other.write_text("mine")
    {"folder": path.mkdir, "fifo": lambda: os.mkfifo(path), "link": lambda: path.symlink_to(other)}[what]()
    log = ScriptLog(path)
    log.write(1, b"text\n")
    log.close()
    assert log.problem
    assert other.read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this machine")
def test_a_full_disk_ends_the_log_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ScriptLog(tmp_path / "a.log")
    log.write(1, b"first\n")
    full = os.open("/dev/full", os.O_WRONLY)
    with monkeypatch.context() as patched:
        real = os.pwrite
        patched.setattr(os, "pwrite", lambda _, data, offset: real(full, data, offset))
        log.write(1, b"second\n")
    os.close(full)
    log.write(1, b"third\n")
    log.close()
    assert log.problem == "No space left on device"
    assert (tmp_path / "a.log").read_bytes() == b"first\n"
