"""What is sent to machines that do not see an experiment's files, and what comes back: paths are the same there."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from modelopt_cli.core.errors import UsageError
from modelopt_cli.tuning.executors._ray_files import Copies, packed, put_back
from modelopt_cli.tuning.objective import Folders


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    folder = tmp_path / "experiment"
    for name in ("train.py", "data/a.csv", ".git/config", "runs/old/study.sqlite", "runs/old/model.pt", "own/{x}.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def folders(experiment: Path) -> Folders:
    logs = f"{experiment}/runs/now/logs/{{number}}.log"
    return Folders((experiment, experiment / "runs/old/model.pt"), (logs, f"{experiment}/runs/now/dirs/{{number}}"))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_there_and_back(experiment: Path) -> None:
    given = folders(experiment)
    sent = packed(given)
    shutil.rmtree(experiment)  # from here on this is another machine
    first, second = Copies(given), Copies(given)
    first.receive(sent)
    second.receive(sent)
    assert files(experiment) == {"train.py", "data/a.csv", "runs/old/model.pt", "own/{x}.txt"}
    assert (experiment / "data/a.csv").read_text() == "data/a.csv"

    now = experiment / "runs/now"
    (now / "logs/1.log").write_text("one")
    (now / "logs/12.log").write_text("another trial's")
    (now / "dirs/1/deep").mkdir(parents=True)
    (now / "dirs/1/deep/model.bin").write_bytes(b"\0\1")
    (now / "dirs/1/link").symlink_to("/etc/passwd")
    left = first.changed(given.left, 1, 7)
    assert first.changed(given.left, 1, 7) == b"", "nothing new"
    (experiment / "__pycache__").mkdir()
    first.close()
    assert experiment.exists(), "the other worker uses it still"
    second.close()
    assert not experiment.exists()

    put_back(left, given)  # on the machine that searches
    assert files(experiment) == {"runs/now/logs/1.log", "runs/now/dirs/1/deep/model.bin"}
    assert (now / "logs/1.log").read_text() == "one"
    put_back(left, Folders(left=(f"{experiment}/elsewhere/*",)))
    assert not (experiment / "elsewhere").exists(), "nothing is written but where trials leave files"


def test_what_is_there_is_kept(experiment: Path) -> None:
    given = folders(experiment)
    sent = packed(given)
    copies = Copies(given)
    copies.receive(sent)
    copies.close()
    assert (experiment / "train.py").exists(), "it was there before"
    (experiment / "train.py").write_text("changed")
    with pytest.raises(UsageError, match=r"train\.py is there with another content than where the search was started"):
        Copies(given).receive(sent)
    assert (experiment / "train.py").read_text() == "changed"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_a_lost_worker_left_is_removed_before_the_next_search(experiment: Path) -> None:
    given = folders(experiment)
    sent = packed(given)
    (experiment / "train.py").unlink()
    lost = Copies(given)
    lost.receive(sent)
    for entry in Path("/proc/self/fd").iterdir():  # its lock goes with its process
        if entry.is_symlink() and str(entry.readlink()).endswith(".users"):
            os.close(int(entry.name))
    (experiment / "train.py").write_text("of the search before")
    copies = Copies(given)
    copies.receive(sent)
    assert (experiment / "train.py").read_text() == "train.py"
    copies.close()


def test_more_than_can_be_sent_is_refused(experiment: Path) -> None:
    with pytest.raises(UsageError, match=r"is more than .* GiB, which is not sent to machines that do not see it"):
        packed(folders(experiment), most=10)
