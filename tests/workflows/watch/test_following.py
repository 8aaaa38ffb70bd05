"""A study is read while it is written: the writer is not kept waiting, and the run's files stay as they are."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from modelopt_cli.core.errors import StorageError
from modelopt_cli.tuning.study.following import StudyFollower
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State
from tests.support.waiting import until

SPACE = {"x": {"float": [0.0, 1.0]}}


def study_at(path: Path) -> Study:
    return Study(SPACE, sampler="random", objective="minimize loss", path=path)


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def test_each_look_takes_over_what_is_new(tmp_path: Path) -> None:
    follower = StudyFollower(tmp_path / "study.sqlite")
    assert not follower.look(written=True), "there is nothing yet"
    with study_at(tmp_path / "study.sqlite") as study:
        first = study.ask()
        assert follower.look(written=True)
        assert [trial.state for trial in follower.trials] == [State.RUNNING]
        assert not follower.look(written=True)
        study.report(first.number, 1, {"loss": 0.5})
        study.tell(first.number, {"loss": 0.4})
        second = study.ask()
        assert follower.look(written=True)
        assert tuple(follower.trials) == study.trials
        assert follower.header == Study.read(tmp_path / "study.sqlite")[1]
    assert follower.ends == [first.number]
    started, ended = follower.clocks[first.number].started, follower.clocks[first.number].ended
    assert started is not None
    assert ended is not None
    assert started <= ended
    assert second.number in follower.clocks


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    with study_at(tmp_path / "study.sqlite") as study:
        for trial in study.ask_many(3):
            study.tell(trial.number, {"loss": trial.params["x"]})
        trials = study.trials
    before = hashes(tmp_path)
    follower = StudyFollower(tmp_path / "study.sqlite")
    assert follower.look(written=False)
    assert tuple(follower.trials) == trials
    assert hashes(tmp_path) == before, "no file was changed, made or left"


def test_a_folder_that_cannot_be_written_can_be_watched(tmp_path: Path) -> None:
    """With what a killed process leaves: events that stand in the log alone."""
    folder, copy = tmp_path / "run", tmp_path / "killed"
    folder.mkdir()
    copy.mkdir()
    with study_at(folder / "study.sqlite") as study:
        trial = study.ask()
        study.tell(trial.number, {"loss": 0.5})
        for name in ("study.sqlite", "study.sqlite-wal"):
            (copy / name).write_bytes((folder / name).read_bytes())
        expected = study.trials
    copy.chmod(0o500)
    before = hashes(copy)
    try:
        follower = StudyFollower(copy / "study.sqlite")
        assert follower.look(written=False)
        assert tuple(follower.trials) == expected
        assert hashes(copy) == before
    finally:
        copy.chmod(0o700)


def test_another_study_in_its_place_is_read_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    follower = StudyFollower(path)
    for count in (3, 1):
        with study_at(path) as study:
            study.ask_many(count)
            follower.look(written=True)
            assert len(follower.trials) == count
        path.rename(tmp_path / f"old-{count}")


def test_what_is_no_study_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(StorageError, match="no study"):
        StudyFollower(path).look(written=False)


@pytest.mark.slow
def test_a_writer_under_load_is_never_locked_out(tmp_path: Path) -> None:
    """Four readers look without a pause while 300 trials are asked, reported and told."""
    path = tmp_path / "study.sqlite"
    over, errors, looks = threading.Event(), [], [0]
    study = study_at(path)
    study.ask()

    def read() -> None:
        follower = StudyFollower(path)
        try:
            while not over.is_set():
                follower.look(written=True)
                looks[0] += 1
                assert [trial.number for trial in follower.trials] == list(range(len(follower.trials)))
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(300):
            trial = study.ask()
            study.report(trial.number, 1, {"loss": trial.params["x"]})
            study.tell(trial.number, {"loss": trial.params["x"]})
        until(lambda: errors or looks[0] > 4, "that they have looked")
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert not errors
    last = StudyFollower(path)
    last.look(written=True)
    assert tuple(last.trials) == study.trials
    study.close()
