"""A file appears whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import StorageError
from modelopt_cli.results.files import write_json, write_text, write_whole

KILLED = """\
import os, signal, sys
from pathlib import Path
from modelopt_cli.results.files import write_whole

def write(stream):
    stream.write(b"new" * 100_000)
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)

def dies(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before the rename":
    Path.replace = dies
    write_whole(Path(sys.argv[1]), lambda stream: stream.write(b"new" * 100_000))
else:
    write_whole(Path(sys.argv[1]), write)
"""


@pytest.mark.parametrize("before", [b"old", None], ids=["over an old file", "a new file"])
def test_it_is_there_afterwards_and_nothing_else(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "report.json"
    if before is not None:
        path.write_bytes(before)
    write_whole(path, lambda stream: stream.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("when", ["while it writes", "before the rename"])
@pytest.mark.parametrize("before", [b"old", None], ids=["over an old file", "a new file"])
def test_a_process_that_is_killed_leaves_what_was_there(tmp_path: Path, when: str, before: bytes | None) -> None:
    path = tmp_path / "report.json"
    if before is not None:
        path.write_bytes(before)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), when], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == before
    write_whole(path, lambda stream: stream.write(b"newer"))  # what the killed one left is in nobody's way
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("error", [ValueError("own"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_error_while_it_writes_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def write(stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise error

    with pytest.raises(StorageError if isinstance(error, OSError) else type(error)):
        write_whole(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "the disk is full; free some space"), (errno.EACCES, "choose another place, or make it writable")],
)
def test_what_the_system_refuses_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=message):
        write_text(tmp_path / "a.txt", "text")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "no folder" / "a.txt", "text")


def test_it_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "text")
    (tmp_path / "b.txt").write_text("text")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


@pytest.mark.parametrize("durable", [True, False])
def test_only_durable_files_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_whole(tmp_path / "a", lambda stream: stream.write(b"a"), durable=durable)
    assert len(synced) == (2 if durable else 0), "the file, and the folder that has its name"


CONTENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


def finite(content: Any) -> Any:
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    return [finite(value) for value in content] if isinstance(content, list) else content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(CONTENTS)
def test_json_is_read_back_but_for_what_json_cannot_hold(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "a.json", content)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    again = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert again == finite(content)
