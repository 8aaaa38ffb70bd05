"""Settings that differ, and only those, by their paths; of a search, those of its best trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from modelopt_cli.workflows.comparison.runs import opened
from modelopt_cli.workflows.comparison.settings import differing_settings
from tests.support.compared_runs import EXPERIMENT, run_folder


def rows(root: Path, *names: str) -> dict[str, list[Any]]:
    runs = [opened(name, letter, root) for name, letter in zip(names, "ABC", strict=False)]
    table = differing_settings(runs)
    assert table.columns == ["setting", *(run.letter for run in runs)]
    return {str(row[0]): row[1:] for row in table.rows}


def test_only_what_differs_is_there(tmp_path: Path) -> None:
    run_folder(tmp_path, "a", {})
    run_folder(tmp_path, "b", {}, experiment={**EXPERIMENT, "seed": 4, "model": {"type": "mlp", "hidden": [16, 4]}})
    assert rows(tmp_path, "a", "b") == {"model.hidden": ["[8]", "[16, 4]"]}
    assert rows(tmp_path, "a", "a") == {}


def test_a_section_that_one_lacks_is_one_row(tmp_path: Path) -> None:
    run_folder(tmp_path, "a", {})
    run_folder(tmp_path, "b", {}, experiment={**EXPERIMENT, "tuning": {"trials": 3, "sampler": {"type": "random"}}})
    assert rows(tmp_path, "a", "b") == {"tuning": [None, "given"]}


def test_of_a_search_the_best_trial_s_are_compared(tmp_path: Path) -> None:
    tuning = {**EXPERIMENT, "tuning": {"trials": 3}}
    best = {"params": {"model.hidden.0": 32, "training.optimizer": {"type": "sgd", "lr": 0.5}, "training.x.y": 1}}
    path = run_folder(tmp_path, "a", {}, experiment=tuning, best=best, kind="search", workflow="tune")
    run_folder(tmp_path, "b", {}, experiment=tuning)
    expected = {
        "model.hidden": ["[32]", "[8]"],
        "training.optimizer.lr": [0.5, 0.01],
        "training.optimizer.type": ["sgd", "adam"],
        "training.x.y": [1, None],
    }
    assert rows(tmp_path, "a", "b") == expected
    whole = {**EXPERIMENT, "training": {"epochs": 9, "optimizer": {"type": "adam", "lr": 0.01}}}
    (path / "best.yaml").write_text(yaml.safe_dump(whole))  # which has the defaults of what was chosen, too
    assert rows(tmp_path, "a", "b") == {"training.epochs": [9, 3]}


def test_runs_whose_files_tell_nothing(tmp_path: Path) -> None:
    for name in "ab":
        run_folder(tmp_path, name, {})
    path = run_folder(tmp_path, "c", {}, experiment={**EXPERIMENT, "seed": 1, "model": {"type": "cnn"}})
    for text in ("a: [", "a: &x [1]\nb: *x\n", "- 1\n", "\x00", "[" * 5000):
        (path / "experiment.yaml").write_text(text)
        assert rows(tmp_path, "a", "b", "c") == {}
        assert opened("c", "C", tmp_path).settings is None
    (path / "experiment.yaml").write_text(yaml.safe_dump({**EXPERIMENT, "model": {"type": "cnn"}}))
    assert rows(tmp_path, "a", "b", "c")["model.type"] == ["mlp", "mlp", "cnn"]
