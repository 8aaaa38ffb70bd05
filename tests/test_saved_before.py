"""Files that an earlier version wrote are read, and runs that it left in the middle end as they would have ended then.

The fixtures lie in fixtures/saved/, a folder each; fixtures/make.py says how they were made.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from modelopt_cli import Study, evaluate, load, prune, train, tune
from modelopt_cli.cli.main import main

FIXTURES = Path(__file__).parent / "fixtures"
_SPEC = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make.py")
assert _SPEC is not None
assert _SPEC.loader is not None
fixtures = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fixtures)

FINISHED = [name for name in fixtures.CASES if not name.endswith("-interrupted")]
INTERRUPTED = [name for name in fixtures.CASES if name.endswith("-interrupted")]
NETWORKS = [name for name in FINISHED if name != "estimator"]


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Runs `modelopt ARGS...` in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr("sys.argv", ["modelopt", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Copies a fixture to a folder that is then the current one."""

    def copied(name: str) -> Path:
        shutil.copytree(FIXTURES / "saved" / name, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name

    return copied


def expected(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return document


def close(actual: Any, wanted: Any, where: str = "") -> None:
    """Assert that two documents agree; numbers as far as another machine's sums of floats do.

    What is reported since then stands between what was reported before.
    """
    if isinstance(wanted, dict) and {"columns", "last"} <= set(wanted):
        kept = [at for at, name in enumerate(actual["columns"]) if name in wanted["columns"]]
        columns, rows = [actual["columns"][at] for at in kept], [[row[at] for at in kept] for row in actual["last"]]
        actual = {**actual, "columns": columns, "last": rows}
    if isinstance(wanted, dict):
        assert [key for key in actual if key in wanted] == list(wanted), where
        for key, value in wanted.items():
            close(actual[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(actual) == len(wanted), where
        for index, value in enumerate(wanted):
            close(actual[index], value, f"{where}.{index}")
    elif isinstance(wanted, float):
        assert actual == pytest.approx(wanted, rel=1e-3, abs=1e-3), where
    else:
        assert actual == wanted, where


@pytest.mark.parametrize("name", FINISHED)
def test_a_finished_run_is_shown(name: str, cli: Cli, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    report = json.loads((folder / "run" / "report.json").read_text())
    done = cli("show", "run")
    assert done.code == 0, done.err
    assert "accuracy" in done.out
    again = cli("show", "run", "--json")
    assert json.loads(again.out)["metrics"] == report["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FINISHED)
def test_a_saved_model_is_judged_as_it_was(name: str, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    metrics = evaluate(folder / "run" / "model.pt", split="test").metrics
    for metric, value in expected(folder)["metrics"].items():
        if metric.startswith("test.") and not metric.endswith(("_drop", "_rise", "gap_closed")):
            assert metrics[metric] == pytest.approx(value, rel=1e-3, abs=1e-3), metric


@pytest.mark.slow
@pytest.mark.parametrize("name", FINISHED)
def test_a_saved_model_predicts_and_is_looked_into(name: str, cli: Cli, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    (folder / "new.csv").write_text(fixtures.NEW)
    done = cli("predict", "run/model.pt", "new.csv")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(done.out.splitlines()))
    labels = [row["label"] for row in rows]
    assert labels[0] == labels[3] == "setosa"
    assert labels[2] == "virginica"
    if name == "estimator":
        return
    looked = json.loads(cli("inspect", "run/model.pt", "--json").out)
    shapes = [tensor["shape"] for tensor in expected(folder)["tensors"].values()]
    assert looked["metrics"]["model.parameters"] == sum(math.prod(shape) for shape in shapes if shape)
    grouped = cli("inspect", "run/model.pt", "--groups")
    assert grouped.code == 0, grouped.err


@pytest.mark.parametrize("name", NETWORKS)
def test_the_tensors_of_a_saved_model_are_what_they_were(name: str, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    close(fixtures.figures(folder / "run"), expected(folder), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(name: str, cli: Cli, saved: Callable[[str], Path]) -> None:
    folder, case = saved(name), fixtures.CASES[name]
    assert json.loads((folder / "run" / "report.json").read_text())["status"] == "interrupted"
    assert cli("show", "run").code == 0
    rows = finished_rows(folder / "run")
    done = cli(case.command, "it.yaml", "--out", "run", "--resume", "--quiet")
    assert done.code == 0, done.err
    assert "starts from the beginning" not in done.out + done.err
    close(fixtures.figures(folder / "run"), expected(folder), name)
    assert not (folder / "run" / ".state.pt").exists()
    after = finished_rows(folder / "run")
    same = [any(row.items() <= one.items() for one in after) for row in rows]  # there may be columns more by now
    assert all(same), "what was finished is not done again"


def finished_rows(run: Path) -> list[dict[str, Any]]:
    """Rows of the tables of trials and of the curve that are final; of trials with the seconds that they took."""
    ended: list[dict[str, Any]] = []
    for name in ("trials.json", "curve.json"):
        if (run / name).is_file():
            rows = json.loads((run / name).read_text())
            ended += [row for row in rows if row.get("state", "completed") in ("completed", "stopped")]
    return ended


def test_another_experiment_is_not_gone_on_with(cli: Cli, saved: Callable[[str], Path]) -> None:
    folder = saved("train-interrupted")
    before = {path: path.read_bytes() for path in (folder / "run").iterdir() if path.name != ".lock"}
    done = cli("train", "it.yaml", "--out", "run", "--resume", "--set", "training.epochs=9")
    assert done.code == 2
    assert "-> 9" in done.err
    assert before == {path: path.read_bytes() for path in (folder / "run").iterdir() if path.name != ".lock"}


@pytest.mark.slow
def test_what_all_trials_start_from_is_not_made_again(cli: Cli, saved: Callable[[str], Path]) -> None:
    folder = saved("tune-prune-interrupted")
    stages = {path.name: path.read_bytes() for path in (folder / "run" / ".stages").iterdir()}
    assert stages
    assert cli("tune", "it.yaml", "--out", "run", "--resume", "--quiet").code == 0
    left = folder / "run" / ".stages"
    assert not left.exists() or {path.name: path.read_bytes() for path in left.iterdir()} == stages


@pytest.mark.slow
def test_a_finished_search_is_read_replayed_and_gone_on_with(cli: Cli, saved: Callable[[str], Path]) -> None:
    folder = saved("tune")
    before = json.loads((folder / "run" / "trials.json").read_text())
    trials, meta = Study.read(folder / "run" / "study.sqlite")
    assert len(trials) == len(before) == 8
    assert meta["objective"] == ["minimize validation.loss"]
    replayed = cli("replay", "run")
    assert replayed.code == 0, replayed.out + replayed.err
    grown = cli("tune", "it.yaml", "--out", "run", "--resume", "--quiet", "--trials", "9")
    assert grown.code == 0, grown.err
    after = json.loads((folder / "run" / "trials.json").read_text())
    assert len(after) == 9
    assert all(row in after for row in before)


@pytest.mark.slow
def test_the_best_setting_runs_as_it_stands(saved: Callable[[str], Path]) -> None:
    folder = saved("tune")
    report = train(load(folder / "run" / "best.yaml"))
    wanted = expected(folder)["metrics"]
    assert report.metrics["validation.loss"] == pytest.approx(wanted["validation.loss"], rel=1e-3)


@pytest.mark.slow
def test_an_earlier_search_is_known_to_a_new_one(saved: Callable[[str], Path]) -> None:
    folder = saved("tune")
    changes = ["tuning.warm_start=[run]", "tuning.trials=3", "tuning.sampler={type: tpe, initial_points: 4}"]
    report = tune(load(folder / "it.yaml", changes))
    assert len(report.tables["trials"].rows) == 3


@pytest.mark.slow
def test_what_is_masked_stays_zero_in_further_training(saved: Callable[[str], Path]) -> None:
    folder = saved("prune-weights")
    before = torch.load(folder / "run" / "model.pt", weights_only=True)["state"]
    report = train(load(folder / "it.yaml", ["model={type: checkpoint, path: run/model.pt}", "pruning=null"]), out="on")
    assert report.status == "completed"
    after = torch.load(folder / "on" / "model.pt", weights_only=True)["state"]
    zeros = {name: tensor == 0 for name, tensor in before.items() if name.endswith("weight")}
    assert sum(int(each.sum()) for each in zeros.values()) > 0
    for name, each in zeros.items():
        assert not after[name][each].any(), name
    assert any(not torch.equal(after[name], before[name]) for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prune-weights", "prune-neurons"])
def test_a_pruned_model_is_pruned_further(name: str, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    changes = ["model={type: checkpoint, path: run/model.pt}", "pruning.schedule=one_shot", "pruning.recovery=null"]
    report = prune(load(folder / "it.yaml", [*changes, "pruning.amount=0.8"]))
    measure = "model.nonzero" if name == "prune-weights" else "model.parameters"
    assert report.metrics[measure] < expected(folder)["metrics"][measure]


@pytest.mark.slow
def test_a_model_without_some_units_is_exported(cli: Cli, saved: Callable[[str], Path]) -> None:
    saved("prune-neurons")
    done = cli("export", "run/model.pt", "small.pt2")
    assert done.code == 0, done.err
    logits, _ = torch.export.load("small.pt2").module()(torch.zeros(5, 4, dtype=torch.float64))
    assert logits.shape == (5, 3)


@pytest.mark.slow
def test_weights_are_taken_out_of_a_saved_file(cli: Cli, saved: Callable[[str], Path]) -> None:
    saved("train")
    done = cli("prune", "run/model.pt", "--amount", "0.5", "--out", "sparse.pt", "--json", "--quiet")
    assert done.code == 0, done.err
    assert json.loads(done.out)["metrics"]["model.sparsity"] > 0.2
    assert evaluate("sparse.pt").metrics["test.accuracy"] > 0.3


@pytest.mark.slow
def test_an_earlier_teacher_teaches(cli: Cli, saved: Callable[[str], Path]) -> None:
    saved("distill")
    done = cli("distill", "it.yaml", "--set", "distillation.teacher=run/teacher.pt", "--out", "new", "--quiet")
    assert done.code == 0, done.err
