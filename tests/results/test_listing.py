"""Which runs there are: by folder, name and number, damaged ones included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelopt_cli.core.errors import InputError
from modelopt_cli.results.listing import find_run, is_run, list_runs, summarise
from modelopt_cli.results.report import Report
from modelopt_cli.results.run_directory import RunDirectory


def run(root: Path, name: str, number: int, **content: object) -> Path:
    path = root / name / str(number)
    path.mkdir(parents=True)
    report = Report.model_validate({"kind": "training", "workflow": "train", "name": name, **content})
    (path / "report.json").write_text(report.to_json())
    return path


def test_runs_are_sorted_by_name_and_number(tmp_path: Path) -> None:
    for name, number in (("b", 1), ("a", 10), ("a", 2)):
        run(tmp_path, name, number)
    (tmp_path / "a" / "notes").mkdir()
    (tmp_path / "a" / "3").mkdir()  # nothing of ours in it
    (tmp_path / "file").touch()
    assert [(each.name, each.number) for each in list_runs(tmp_path)] == [("a", 2), ("a", 10), ("b", 1)]
    assert list_runs(tmp_path / "nothing") == []


def test_a_run_is_found_by_folder_by_number_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = run(tmp_path, "a", 9), run(tmp_path, "a", 10)
    assert [find_run(text, tmp_path) for text in (str(first), "a/9", "a")] == [first, first, last]
    monkeypatch.chdir(tmp_path / "a")
    assert find_run("9", tmp_path) == Path("9")
    with pytest.raises(InputError, match=r"there is no run 'b'; known names under .*: a "):
        find_run("b", tmp_path)
    with pytest.raises(InputError, match=r"known names under .*: none "):
        find_run("b", tmp_path / "nothing")


@pytest.mark.parametrize("mark", ["experiment.yaml", "report.json", "study.sqlite", ".lock"])
def test_a_folder_is_a_run_by_what_lies_in_it(tmp_path: Path, mark: str) -> None:
    assert not is_run(tmp_path)
    (tmp_path / mark).touch()
    assert is_run(tmp_path)
    assert not is_run(tmp_path / mark)


def test_what_is_damaged_is_left_empty(tmp_path: Path) -> None:
    path = run(tmp_path, "a", 1)
    (path / "report.json").write_text("{")
    summary = summarise(path)
    assert (summary.status, summary.workflow, summary.best, summary.seconds) == ("interrupted", "", "", None)


def test_a_run_that_is_written_is_running(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, "a") as directory:
        assert summarise(directory.path).status == "running"
    assert summarise(directory.path).status == "interrupted"


@pytest.mark.parametrize(
    ("content", "best"),
    [
        ({"metrics": {"train.loss": 1.0, "validation.accuracy": 0.98765}}, "validation.accuracy 0.9877"),
        ({"metrics": {"b": 2.0, "a": 1.0}}, "b 2"),
        ({"metrics": {"a": 1.0, "c": 3.0}, "details": {"objective": ["minimize c"]}}, "c 3"),
        ({}, ""),
    ],
)
def test_the_main_metric_is_the_objective_or_a_usual_one(tmp_path: Path, content: dict[str, object], best: str) -> None:
    assert summarise(run(tmp_path, "a", 1, **content)).best == best


def test_sizes_are_of_all_files_in_it_and_the_json_is_plain(tmp_path: Path) -> None:
    path = run(tmp_path, "a", 1)
    (path / "deep").mkdir()
    (path / "deep" / "model.pt").write_bytes(b"x" * 1000)
    summary = summarise(path)
    assert summary.bytes == 1000 + (path / "report.json").stat().st_size
    assert json.loads(json.dumps(summary.as_dict()))["path"] == str(path)
