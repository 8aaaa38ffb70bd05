"""A real notebook, executed by Jupyter's own client: what a user types, and what is shown below each cell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SEARCH = """\
from modelopt_cli import Study, load, tune
report = tune(load({
    "name": "flowers",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 2, "batch_size": 32, "optimizer": {"type": "adam", "lr": 0.01}},
    "tuning": {
        "objective": "maximize validation.accuracy", "sampler": "random", "trials": 3, "executor": "serial",
        "space": {"training.optimizer.lr": {"float": [1e-3, 0.1], "log": True}},
    },
}))
"""
STUDY = """\
study = Study({"x": {"float": [0.0, 1.0]}}, "random", "minimize loss")
for _ in range(6):
    trial = study.ask()
    trial = study.tell(trial, (trial.params["x"] - 0.3) ** 2)
"""


EXECUTE = """\
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=800, kernel_name="python3").execute()
nbformat.validate(notebook)
nbformat.write(notebook, sys.argv[1])
"""


def executed(folder: Path, *cells: str) -> list[list[Any]]:
    """The outputs of each cell. A process of its own runs Jupyter's client, which leaves sockets open when it ends."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra dev)")
    pytest.importorskip("nbclient", reason="nbclient is not installed (extra dev)")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra dev)")
    path = folder / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells]), path)
    command = [sys.executable, "-c", EXECUTE, str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return [cell.outputs for cell in nbformat.read(path, 4).cells]


def data_of(outputs: list[Any]) -> dict[str, str]:
    """What the cell's result is, by MIME type."""
    assert [output for output in outputs if output.output_type == "error"] == []
    (result,) = [output for output in outputs if output.output_type == "execute_result"]
    return dict(result.data)


def test_reports_studies_trials_and_tables_show_themselves(tmp_path: Path) -> None:
    shown = ["report", "report.to_pandas('trials')", "study", "trial", "study.to_pandas()", "[study, trial, report]"]
    outputs = executed(tmp_path, SEARCH, STUDY, *shown)
    report, trials, study, trial, frame, line = (data_of(each) for each in outputs[2:])
    assert "flowers" in report["text/html"]
    assert "validation.accuracy" in report["text/html"]
    assert report["text/plain"].startswith("Report(tune flowers: completed, validation.accuracy ")
    assert "minimize loss" in study["text/html"]
    assert study["text/plain"].startswith("Study(minimize loss: 6 trials, best loss ")
    assert "Trial 5" in trial["text/html"]
    assert trial["text/plain"].startswith("Trial(5 completed, loss ")
    assert "training.optimizer.lr" in trials["text/html"]
    assert frame["text/html"].count("completed") == 6
    assert "text/html" not in line
    for each in (report, study, trial):
        assert "<script" not in each["text/html"]
    assert [path.name for path in tmp_path.iterdir()] == ["notebook.ipynb"]


def test_charts_show_themselves(tmp_path: Path) -> None:
    outputs = executed(tmp_path, SEARCH, STUDY, "report.plot('history')", "report.charts", "study.plot()")
    for each in (outputs[2], outputs[4]):
        shown = data_of(each)
        assert "<svg" in shown["text/html"]
        assert "<script" not in shown["text/html"]
        assert shown["application/vnd.vegalite.v6+json"]
        assert shown["text/plain"].startswith("History of the search: ")
    assert "'history'" in data_of(outputs[3])["text/plain"]
