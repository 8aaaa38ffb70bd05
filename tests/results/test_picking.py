"""The commands that a report shows for taking a model of its front."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from modelopt_cli.core.conditions import Condition
from modelopt_cli.results.picking import pick_commands
from modelopt_cli.results.report import Cell, Report, Table


def report(folder: Path, rows: list[list[Cell]], columns: tuple[str, ...] = ("checkpoint",)) -> Report:
    return Report(
        kind="search",
        workflow="tune",
        name="x",
        tables={
            "front": Table.model_construct(columns=["trial", "validation.accuracy", "model.size", *columns], rows=rows)
        },
        details={"objective": ["maximize validation.accuracy", "minimize model.size"]},
        artefacts={"directory": str(folder)},
    )


def test_they_name_points_of_this_very_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows: list[list[Cell]] = [[n, 0.98765 - 0.1 * n, 900.0 - n, f"front/trial-{n}.pt"] for n in range(6)]
    asked, named = map(shlex.split, pick_commands(report(tmp_path / "runs" / "a b" / "1", rows)))
    assert asked[:4] == ["modelopt", "pick", "runs/a b/1", "--where"]
    condition = Condition.parse(asked[4])
    met = [row[0] for row in rows if condition.met({"validation.accuracy": float(str(row[1]))})]
    assert met == [0, 1, 2]
    assert asked[5:] == ["--minimize", "model.size"]
    assert named[3:] == ["--trial", "2", "--refine"]


def test_without_models_there_is_nothing_to_take(tmp_path: Path) -> None:
    assert pick_commands(report(tmp_path, [[0, 0.9, 3.0]], columns=())) == []
    assert pick_commands(report(tmp_path, [[0, 0.9, 3.0, None]])) == []
    assert pick_commands(Report(kind="search", workflow="tune", name="x")) == []
