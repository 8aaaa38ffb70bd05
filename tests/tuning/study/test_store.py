"""The store: what is committed survives a kill, damage is told as such, one writer, readers beside it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from modelopt_cli.core.errors import InputError, StorageError, UsageError
from modelopt_cli.tuning.study.store import APPLICATION_ID, Store
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State

SPACE = {"x": {"float": [0, 1]}}
CHILD = """
import sys
from modelopt_cli.tuning.study.study import Study
study = Study({"x": {"float": [0, 1]}}, "random", seed=4, path=sys.argv[1])
print("open", flush=True)
while True:
    trial = study.ask()
    print("asked", trial.number, flush=True)
    for step in range(1, 4):
        study.report(trial, step, {"loss": 1 / step})
    study.tell(trial, trial.params["x"])
    print("told", trial.number, flush=True)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def killed(child: subprocess.Popen[str], word: str, number: int) -> None:
    assert child.stdout is not None
    while child.stdout.readline() != f"{word} {number}\n":
        pass
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait()


def file_of(folder: Path, trials: int = 3) -> Path:
    path = folder / "study.sqlite"
    with Study(SPACE, "random", path=path) as study:
        for _ in range(trials):
            trial = study.ask()
            study.report(trial, 1, {"loss": 2.0})
            study.tell(trial, 1.0)
    return path


@pytest.mark.slow
def test_what_was_told_survives_a_kill(tmp_path: Path) -> None:
    alone = Study(SPACE, "random", seed=4)
    expected = [alone.tell(alone.ask(), 0.0).params for _ in range(40)]
    path = tmp_path / "study.sqlite"
    last = -1
    for word, number in (("asked", 2), ("told", 5), ("asked", 8)):
        killed(writer(path), word, number)
        trials, _ = Study.read(path)
        finished = [trial.number for trial in trials if trial.state is State.COMPLETED]
        last = max(last, number if word == "told" else number - 1)
        assert set(range(last + 1)) <= set(finished), "every trial that was told is there"
        assert finished == list(range(len(finished)))
        assert [trial.params for trial in trials] == expected[: len(trials)], "the same settings as without a kill"
    with Study(SPACE, "random", seed=4, path=path) as study:
        interrupted = next((trial.number for trial in trials if trial.state is State.RUNNING), len(trials))
        again = study.ask()
        assert again.number == interrupted, "what was interrupted is run first"
        assert again.curve == ()
        assert again.params == expected[again.number]


def test_one_writer_and_readers_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    child = writer(path)
    try:
        with pytest.raises(StorageError, match="in use by another process"):
            Study(SPACE, "random", seed=4, path=path)
        trials, meta = Study.read(path)
        assert meta["objective"] == ["minimize loss"]
        assert all(trial.number == number for number, trial in enumerate(trials))
    finally:
        killed(child, "told", 1)
    Study(SPACE, "random", seed=4, path=path).close()  # the lock went with the process
    assert [file.name for file in tmp_path.iterdir()] == ["study.sqlite"], "nothing is left beside it"


def test_a_study_that_was_not_closed_is_in_use(tmp_path: Path) -> None:
    first = Study(SPACE, "random", path=tmp_path / "s")
    with pytest.raises(StorageError, match="not closed"):
        Study(SPACE, "random", path=tmp_path / "s")
    first.close()
    first.close()
    with pytest.raises(UsageError, match="closed"):
        first.ask()
    Study(SPACE, "random", path=tmp_path / "s").close()


def test_a_file_that_is_cut_short_is_damaged(tmp_path: Path) -> None:
    path = file_of(tmp_path, 30)
    whole = path.read_bytes()
    refused = 0
    for share in (0.1, 0.3, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        for use in (Study.read, lambda path: Study(SPACE, "random", path=path)):
            with pytest.raises(StorageError, match=r"damaged|no study") as caught:
                use(path)
            assert caught.value.exit_code == 6
            refused += "start a new run" in str(caught.value)
    assert refused == 8, "each says what to do"


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be read as one" * 20, b"SQLite format 3\0"]
)
def test_garbage_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        Study(SPACE, "random", path=path)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="no study of this version"):
        Study(SPACE, "random", path=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET payload = '{' WHERE sequence = 2",
        "UPDATE events SET kind = 'dreamt' WHERE sequence = 2",
        "UPDATE events SET trial = 77 WHERE kind = 'told'",
        "UPDATE events SET payload = '{}' WHERE kind = 'told'",
        "DELETE FROM events WHERE sequence = 1",
        "UPDATE meta SET value = '[1'",
    ],
)
def test_events_that_make_no_sense_are_damage(tmp_path: Path, change: str) -> None:
    path = file_of(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(StorageError, match="damaged"):
        Study(SPACE, "random", path=path)
    with pytest.raises(StorageError, match="damaged"):
        Study.open(path)


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StorageError, match="version 99"):
        Study.read(path)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    study = Study(SPACE, "random", path=path)
    pages = study._store._connection.execute("PRAGMA page_count").fetchone()[0]  # private: no other handle on SQLite
    study._store._connection.execute(f"PRAGMA max_page_count={pages + 3}")  # SQLite's own way to a full disk
    finished = []

    def fill() -> None:
        while True:
            finished.append(study.tell(study.ask(), 1.0))

    with pytest.raises(StorageError, match="disk is full; free some space") as caught:
        fill()
    assert caught.value.exit_code == 6
    study.close()
    trials, _ = Study.read(path)
    assert trials[: len(finished)] == finished


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        Study(SPACE, "random", path=tmp_path / "absent" / "study.sqlite")
    with pytest.raises(InputError, match="does not exist"):
        Study.read(tmp_path / "study.sqlite")
    with pytest.raises(InputError, match="does not exist"):
        Study.open(tmp_path / "study.sqlite")


def test_a_finished_study_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    code = (
        "import os, sys; from modelopt_cli.tuning.study.study import Study; Study.read(sys.argv[1])\n"  # as root
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "print(len(Study.read(sys.argv[1])[0]))"
    )
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(folder.stat().st_mode | 0o555)
    try:
        process = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    finally:
        tmp_path.chmod(0o755)
    if "PermissionError" in process.stderr:
        pytest.skip("the tests' folder is closed to other users")
    assert process.stdout == "3\n", process.stderr


def test_reports_are_committed_in_groups_and_tells_at_once(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    study = Study(SPACE, "random", path=path)
    trial = study.ask()
    for step in range(1, 51):
        study.report(trial, step, {"loss": 1.0})
    assert len(Study.read(path)[0][0].curve) in range(50), "not every report is worth a write to the disk"
    study.tell(trial, 1.0)
    assert len(Study.read(path)[0][0].curve) == 50
    study.close()


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    assert int.from_bytes(path.read_bytes()[68:72], "big") == APPLICATION_ID  # sqlite.org/fileformat.html, 1.3
    store = Store(path, write=False)
    kinds = [kind for kind, _, _ in store.events()]
    store.close()
    assert kinds == ["queued", "started", "reported", "told"] * 3
