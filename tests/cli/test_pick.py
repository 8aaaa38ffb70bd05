"""`modelopt pick`: a point of the front, judged on test as a run of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelopt_cli import evaluate, load, pick, prune, tune
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import pick as workflow
from modelopt_cli.workflows.search.choosing import Wish
from modelopt_cli.workflows.shared.context import Context, EpochEnded, Progress, StopFlag
from tests.support.cli import Cli

TRAIN = """\
version: 1
name: small
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training: {epochs: 3, batch_size: 32, optimizer: {type: adam, lr: 0.02}}
tuning:
  objective: [maximize validation.accuracy, minimize model.parameters]
  sampler: random
  executor: serial
  trials: 6
  space:
    model.hidden.0: {int: [1, 16]}
"""
PRUNE = """\
version: 1
name: pruned
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [16]}
training: {epochs: 4, batch_size: 32, optimizer: {type: adam, lr: 0.02}}
pruning: {structure: neurons, amount: 0.3, recovery: {epochs: 1}}
tuning:
  workflow: prune
  objective: [maximize validation.accuracy, minimize model.parameters]
  sampler: random
  executor: serial
  trials: 5
  space:
    pruning.amount: {float: [0.1, 0.9]}
"""
DISTILL = """\
version: 1
name: taught
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [4]}
training: {epochs: 2, batch_size: 32, optimizer: {type: adam, lr: 0.02}}
distillation: {teacher: {model: {type: mlp, hidden: [16]}, training: {epochs: 3, batch_size: 32}}, baseline: false}
tuning:
  workflow: distill
  objective: [maximize validation.accuracy, minimize model.parameters]
  sampler: random
  executor: serial
  trials: 4
  space:
    model.hidden.0: {int: [1, 8]}
"""
SKLEARN = """\
version: 1
name: trees
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier}
tuning:
  objective: [maximize validation.accuracy, minimize validation.log_loss]
  sampler: random
  executor: serial
  trials: 5
  space:
    model.max_leaf_nodes: {int: [2, 12]}
"""
FILES = {"small": TRAIN, "pruned": PRUNE, "taught": DISTILL, "trees": SKLEARN}


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a search of each kind in it, made once: they are only read."""
    folder = tmp_path_factory.mktemp("searches")
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text)
        tune(load(folder / f"{name}.yaml"), out=folder / "runs" / name / "1")
    return folder


@pytest.fixture
def runs(searches: Path, tmp_path: Path) -> Path:
    shutil.copytree(searches / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def front(run: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((run / "front.json").read_text())
    return content


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_kept_model_is_judged_on_test_and_saved(cli: Cli, runs: Path, name: str) -> None:
    second = "validation.log_loss" if name == "trees" else "model.parameters"
    before = {path: path.stat().st_mtime_ns for path in (runs / name / "1").iterdir() if path.is_file()}
    row = min(front(runs / name / "1"), key=lambda row: row[second])
    done = cli("pick", name, "--minimize", second, "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["kind"], report["workflow"], report["details"]["trial"]) == ("pick", "pick", row["trial"])
    assert report["metrics"]["validation.accuracy"] == pytest.approx(row["validation.accuracy"])
    picked = runs / f"{name}-pick" / "1"
    test = evaluate(picked / "model.pt").metrics["test.accuracy"]
    assert report["metrics"]["test.accuracy"] == pytest.approx(test)
    kept = evaluate(runs / name / "1" / row["checkpoint"]).metrics["test.accuracy"]
    assert kept == pytest.approx(test), "it is that very model"
    assert yaml.safe_load((picked / "best.yaml").read_text())["name"] == name
    assert (picked / "report.html").is_file()
    assert before == {path: path.stat().st_mtime_ns for path in before}, "the search is only read"


@pytest.mark.slow
def test_conditions_choose_and_the_terminal_says_how(cli: Cli, runs: Path) -> None:
    rows = front(runs / "small" / "1")
    bound = sorted(row["validation.accuracy"] for row in rows)[len(rows) // 2]
    done = cli("pick", "small", "--where", f"validation.accuracy >= {bound}", "--minimize", "model.parameters")
    assert done.code == 0, done.err
    meeting = [row for row in rows if row["validation.accuracy"] >= bound]
    best = min(meeting, key=lambda row: row["model.parameters"])
    assert f"trial {best['trial']} of" in done.out
    assert f"of {len(meeting)} trial" in done.out
    assert "the lowest model.parameters" in done.out
    assert "test.accuracy" in done.out


@pytest.mark.slow
def test_refined_it_recovers_as_long_as_it_was_trained(cli: Cli, runs: Path) -> None:
    """The same as pruning the trial's setting with that many epochs of recovery, from the same dense model."""
    done = cli("pick", "pruned", "--refine", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["details"]["refined"]
    assert report["details"]["changed"] == {"pruning.recovery.epochs": 4}
    trial = report["best"]
    gain = report["details"]["gain"]["validation.accuracy"]
    assert report["metrics"]["validation.accuracy"] - trial["metrics"]["validation.accuracy"] == pytest.approx(gain)
    alone = prune(load(runs / "pruned-pick" / "1" / "best.yaml"))
    assert alone.metrics["validation.loss"] == pytest.approx(report["metrics"]["validation.loss"], rel=1e-5)
    assert alone.metrics["test.accuracy"] == pytest.approx(report["metrics"]["test.accuracy"])
    stages = {path.name for path in (runs / "pruned" / "1" / ".stages").iterdir()}
    assert len(stages) == 1, "the dense model was there, and is not trained again"


@pytest.mark.slow
def test_other_epochs_may_be_said(cli: Cli, runs: Path) -> None:
    done = cli("pick", "pruned", "--refine", "--set", "pruning.recovery.epochs=2", "--trial", 0, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["details"]["changed"] == {"pruning.recovery.epochs": "2"}
    done = cli("pick", "small", "--refine", "--set", "training.epochs=5", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["metrics"]["train.epochs"] == 5


@pytest.mark.slow
def test_an_interrupted_refinement_goes_on_to_the_same_model(runs: Path, tmp_path: Path) -> None:
    asked = workflow.Asked(Wish(), None, True, ("training.epochs=6",))
    whole = workflow.run(runs / "small" / "1", asked, Context())
    stop, out = StopFlag(), tmp_path / "cut"

    def emit(event: Progress) -> None:
        if isinstance(event, EpochEnded) and event.step == 2:
            stop.set(2)

    with RunDirectory.create_at(out) as directory:
        report = workflow.run(runs / "small" / "1", asked, Context(directory, emit, stop))
    assert report.status == "interrupted"
    with RunDirectory.create_at(out, resume=True) as directory:
        report = workflow.run(runs / "small" / "1", asked, Context(directory, resume=True))
    assert report.metrics["validation.loss"] == whole.metrics["validation.loss"]


@pytest.mark.slow
def test_from_python(runs: Path, tmp_path: Path) -> None:
    report = pick(runs / "small" / "1", minimize="model.parameters", out=tmp_path / "picked")
    assert report.best is not None
    assert report.best["number"] == min(front(runs / "small" / "1"), key=lambda row: row["model.parameters"])["trial"]
    assert (tmp_path / "picked" / "model.pt").is_file()
    assert report.model is not None
    assert "test.accuracy" in pick(runs / "trees" / "1", "validation.accuracy >= 0.1").metrics


@pytest.mark.slow
def test_gates_are_judged_on_what_was_picked(cli: Cli, runs: Path, tmp_path: Path) -> None:
    xml = tmp_path / "gates.xml"
    done = cli("pick", "small", "--gate", "test.accuracy >= 2", "--junit", xml)
    assert done.code == 3
    assert "gate not met: test.accuracy >= 2" in done.err
    assert "test.accuracy &gt;= 2" in xml.read_text()
    assert cli("pick", "small", "--gate", "test.acuracy >= 0").code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--where", "validation.accuracy >= 2"], 3, "nearest comes trial"),
        (["--where", "validation.acuracy >= 0.5"], 2, "did you mean 'validation.accuracy'"),
        (["--where", "test.accuracy >= 0.5"], 2, "use validation.accuracy"),
        (["--trial", 99], 2, "has 6 trials"),
        (["--trial", 0, "--minimize", "model.parameters"], 2, "names the trial itself"),
        (["--set", "training.epochs=9"], 2, "add --refine"),
        (["--refine"], 2, "again as it was"),
        (["--refine", "--set", "model.hidden.0=9"], 2, "was searched"),
        (["--refine", "--set", "data.splits.seed=9"], 2, "were measured under"),
        (["--resume"], 2, "add --refine"),
    ],
)
def test_what_cannot_be_picked_is_said_and_leaves_nothing(
    cli: Cli, runs: Path, arguments: list[object], code: int, message: str
) -> None:
    done = cli("pick", "small", *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert not (runs / "small-pick").exists() or not list((runs / "small-pick").iterdir())


@pytest.mark.slow
def test_no_search_a_running_one_and_one_without_models(cli: Cli, runs: Path) -> None:
    cli("pick", "small")
    assert "is no search" in cli("pick", "runs/small-pick/1").err
    with RunDirectory(runs / "small" / "1"):
        assert "is being searched now" in cli("pick", "small").err
    shutil.rmtree(runs / "small" / "1" / "front")
    assert cli("pick", "small").code == 0, "of a search that was killed, models lie where it left them"
    shutil.rmtree(runs / "small" / "1" / ".models")
    done = cli("pick", "small")
    assert (done.code, "no kept models" in done.err) == (2, True)
    assert "was not kept" in cli("pick", "small", "--trial", 0).err
    assert cli("pick", "small", "--trial", 0, "--refine").code == 0, "its model is made again"


@pytest.mark.slow
def test_latencies_measured_at_the_end_decide(cli: Cli, runs: Path) -> None:
    """While a search runs its trials disturb each other's timings; what the front says in the end counts."""
    file = runs / "small" / "1" / "front.json"
    rows = front(runs / "small" / "1")
    fastest = rows[-1]["trial"]
    file.write_text(json.dumps([{**row, "model.latency_ms_again": float(row["trial"] != fastest)} for row in rows]))
    done = cli("pick", "small", "--where", "model.latency_ms <= 0.5", "--maximize", "validation.accuracy", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["details"]["trial"] == fastest


@pytest.mark.slow
def test_a_name_is_its_newest_search(cli: Cli, runs: Path, searches: Path) -> None:
    assert cli("train", searches / "small.yaml", "--quiet").code == 0
    assert (runs / "small" / "2").is_dir()
    assert cli("pick", "small").code == 0
    assert "is no search" in cli("pick", "small/2").err
