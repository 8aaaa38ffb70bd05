"""Runs are numbered without races, locked while they are written, and keep what a failed one was about."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest

from modelopt_cli.core.errors import GateError, InterruptedRunError, StorageError, UsageError
from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.run_directory import RunDirectory, locked, workflow_of
from tests.support.waiting import PATIENCE

CREATE = """\
import sys
from pathlib import Path
from modelopt_cli.results.run_directory import RunDirectory

sys.stdin.readline()  # all begin at once
made = []
for _ in range(10):
    directory = RunDirectory.create(Path(sys.argv[1]), "run")
    made.append(directory)  # and stay locked
print(*(directory.path.name for directory in made), flush=True)
"""
HOLD = """\
import sys
from pathlib import Path
from modelopt_cli.results.run_directory import RunDirectory

directory = RunDirectory.create_at(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def ended(directory: RunDirectory, error: BaseException | None) -> None:
    """As a `with` statement ends that this error came through."""
    traceback: TracebackType | None = None
    directory.__exit__(None if error is None else type(error), error, traceback)


@pytest.mark.slow
def test_processes_that_begin_at_once_have_numbers_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CREATE, str(tmp_path)]
    processes = [subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    numbers = [int(word) for process in processes for word in process.communicate(timeout=PATIENCE)[0].split()]
    assert sorted(numbers) == list(range(1, 41))


def test_numbers_go_on_after_the_highest(tmp_path: Path) -> None:
    for name in ("2", "10", "notes", "7.old"):
        (tmp_path / "run" / name).mkdir(parents=True)
    with RunDirectory.create(tmp_path, "run") as directory:
        assert directory.path == tmp_path / "run" / "11"


def test_a_run_is_locked_while_it_is_written_even_by_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert locked(path)
        with pytest.raises(StorageError, match=f"is in use by process {process.pid} on .*; wait for it to end"):
            RunDirectory(path)
        process.send_signal(signal.SIGKILL)
    assert not locked(path)
    RunDirectory(path).close()


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty, and earlier results are never overwritten; name a new folder"):
        RunDirectory.create_at(tmp_path)
    with pytest.raises(UsageError, match="holds no run to resume"):
        RunDirectory.create_at(tmp_path, resume=True)
    with pytest.raises(UsageError, match="is a file; --out names the folder"):
        RunDirectory.create_at(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "mine"


def begun(path: Path, workflow: str = "train") -> RunDirectory:
    directory = RunDirectory.create_at(path)
    directory.workflow = workflow
    directory.write_experiment({"name": "run", "seed": 3})
    return directory


def test_a_run_is_gone_on_with_on_request_by_its_own_workflow(tmp_path: Path) -> None:
    with begun(tmp_path / "1", "prune") as directory:
        directory.write_report(Report(kind="pruning", workflow="prune", name="run", status="interrupted"))
    with pytest.raises(UsageError, match="go on with it by --resume"):
        RunDirectory.create_at(tmp_path / "1")
    with pytest.raises(UsageError, match="is a run of modelopt prune, which modelopt train cannot go on with"):
        RunDirectory.create_at(tmp_path / "1", resume=True, workflow="train")
    RunDirectory.create_at(tmp_path / "1", resume=True, workflow="prune").close()


def test_the_newest_of_its_workflow_is_gone_on_with(tmp_path: Path) -> None:
    for number, workflow in (("1", "train"), ("2", "train"), ("10", "prune")):
        (tmp_path / "run" / number).mkdir(parents=True)
        (tmp_path / "run" / number / "report.json").write_text(json.dumps({"workflow": workflow}))
    with RunDirectory.newest(tmp_path, "run", "train") as of_train, RunDirectory.newest(tmp_path, "run") as of_any:
        assert (of_train.path.name, of_any.path.name) == ("2", "10")
    with pytest.raises(UsageError, match="there is no run of 'run' by modelopt tune"):
        RunDirectory.newest(tmp_path, "run", "tune")
    with pytest.raises(UsageError, match="there is no run of 'other' under"):
        RunDirectory.newest(tmp_path, "other")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no such thing"), "ValueError: no such thing"),
        (StorageError("a reason of ours"), "a reason of ours"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_run_that_fails_says_why(tmp_path: Path, error: Exception, reason: str) -> None:
    ended(begun(tmp_path / "1"), error)
    report = Report.model_validate_json((tmp_path / "1" / "report.json").read_text())
    assert (report.status, report.reason, report.workflow, report.seed) == ("failed", reason, "train", 3)
    assert not locked(tmp_path / "1")


@pytest.mark.parametrize("error", [GateError("missed"), InterruptedRunError("stopped"), KeyboardInterrupt(), None])
def test_a_run_that_ended_otherwise_has_not_failed(tmp_path: Path, error: BaseException | None) -> None:
    ended(begun(tmp_path / "1"), error)
    assert not (tmp_path / "1" / "report.json").exists()


def test_a_report_that_is_complete_stays(tmp_path: Path) -> None:
    directory = begun(tmp_path / "1")
    directory.write_report(Report(kind="training", workflow="train", name="run"))
    ended(directory, ValueError("afterwards"))
    assert json.loads((tmp_path / "1" / "report.json").read_text())["status"] == "completed"


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    ended(RunDirectory.create(tmp_path, "run"), UsageError("before it began"))
    assert not (tmp_path / "run" / "1").exists()


def test_a_folder_that_is_replaced_meanwhile_is_noticed(tmp_path: Path) -> None:
    with begun(tmp_path / "1") as directory:
        directory.check()
        (tmp_path / "1").rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="was removed, renamed or replaced while the run went on"):
            directory.check()
        (tmp_path / "1").mkdir()
        with pytest.raises(StorageError, match="was removed, renamed or replaced"):
            directory.check()
        (tmp_path / "1").rmdir()
        (tmp_path / "elsewhere").rename(tmp_path / "1")
        directory.check()


def test_tables_are_kept_as_csv_and_json(tmp_path: Path) -> None:
    table = Table(columns=["a", "b"], rows=[[1, float("nan")], [None, "x"]])
    with begun(tmp_path / "1") as directory:
        directory.write_table("trials", table)
    assert (tmp_path / "1" / "trials.csv").read_text() == "a,b\n1,nan\n,x\n"
    assert json.loads((tmp_path / "1" / "trials.json").read_text()) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_the_workflow_is_told_by_the_report_or_by_what_lies_there(tmp_path: Path) -> None:
    assert workflow_of(tmp_path) == ""
    (tmp_path / "study.sqlite").touch()
    assert workflow_of(tmp_path) == "tune"
    (tmp_path / "report.json").write_text("{")
    assert workflow_of(tmp_path) == "tune"
    (tmp_path / "report.json").write_text('{"workflow": "distill"}')
    assert workflow_of(tmp_path) == "distill"
