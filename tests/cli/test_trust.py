"""Model files that name code: no command runs it, unless the user says so. An audit hook watches what is run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from modelopt_cli import distill, evaluate, load, predict
from modelopt_cli.core.errors import RefusedError
from modelopt_cli.core.yaml_dumper import dump
from tests.support.cli import QUICK, Cli

TRAIN = QUICK[: QUICK.index("tuning:")]
HOSTILE = {"type": "python", "target": "hostile:run", "arguments": {"word": "boo"}, "folder": "."}
PROCESS = {"type": "python", "target": "subprocess:call", "arguments": {"args": ["touch", "ran"]}, "folder": "."}
SPLITS = {"validation": 0.2, "test": 0.2, "seed": 0}

CODE = """\
from pathlib import Path

Path("ran").touch()

from torch import nn


def run(word=""):
    Path("ran").touch()
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
"""
NETS = """\
from torch import nn


def build(inputs, outputs, width=8, kind="relu"):
    return nn.Sequential(nn.Linear(inputs[0], width), nn.ReLU(), nn.Linear(width, outputs))


def data(seed=0):
    from sklearn.datasets import load_iris

    iris = load_iris()
    return iris.data, iris.target
"""
OWN = """\
version: 1
name: own
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: python, target: "nets:build", arguments: {width: 8}}
training: {epochs: 2, batch_size: 32}
"""

_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
        _watching[-1].append(f"{event} {arguments[:2]}")
    if event == "exec" and Path(getattr(arguments[0], "co_filename", "")).stem in ("hostile", "nets"):  # an import
        _watching[-1].append("exec")


sys.addaudithook(_hook)


@pytest.fixture
def watched() -> Iterator[Callable[[], list[str]]]:
    """What was imported, run or started of the code that hostile files name."""
    opened: list[str] = []
    _watching.append(opened)
    yield lambda: opened
    _watching.remove(opened)


@pytest.fixture
def model(cli: Cli, tmp_path: Path) -> dict[str, Any]:
    """The content of a trained model.pt; beside it lie the experiment, new data and code that a file may name."""
    (tmp_path / "plain.yaml").write_text(TRAIN)
    assert cli("train", "plain.yaml", "--out", "run", "-q").code == 0
    (tmp_path / "new.csv").write_text(
        "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n5,3,1,0.2\n"
    )
    (tmp_path / "hostile.py").write_text(CODE)
    (tmp_path / "nets.py").write_text(NETS)
    content: dict[str, Any] = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    return content


COMMANDS = {
    "evaluate": ["evaluate", "m.pt"],
    "evaluate data": ["evaluate", "m.pt", "--data", "new.csv"],
    "predict": ["predict", "m.pt", "new.csv"],
    "measure": ["inspect", "m.pt", "--measure"],
    "baseline": ["inspect", "run/model.pt", "--baseline", "m.pt"],
    "groups": ["inspect", "m.pt", "--groups"],
    "export": ["export", "m.pt", "out.pt2"],
    "prune with data": ["prune", "m.pt", "--amount", "0.5", "--experiment", "plain.yaml"],
    "train on": ["train", "plain.yaml", "--set", "model={type: checkpoint, path: m.pt}"],
    "prune on": ["prune", "plain.yaml", "--set", "model={type: checkpoint, path: m.pt}", "--amount", "0.5"],
    "dry run": ["prune", "plain.yaml", "--set", "model={type: checkpoint, path: m.pt}", "--amount", "0.5", "--dry-run"],
    "teacher": ["distill", "plain.yaml", "--set", "distillation={teacher: m.pt}"],
    "teacher model": [
        "distill",
        "plain.yaml",
        "--set",
        "distillation={teacher: {model: {type: checkpoint, path: m.pt}}}",
    ],
    "recovery": [
        "prune",
        "plain.yaml",
        "--set",
        "pruning={amount: 0.5, recovery: {epochs: 1, distillation: {teacher: m.pt}}}",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.parametrize("section", [HOSTILE, PROCESS], ids=["module", "process"])
def test_no_command_runs_the_code_of_a_model(
    cli: Cli, model: dict[str, Any], watched: Callable[[], list[str]], command: list[str], section: dict[str, Any]
) -> None:
    torch.save({**model, "architecture": section}, "m.pt")
    watched().clear()
    result = cli(*command)
    assert result.code == 5, result.err
    for said in (section["target"], "--trust-code", "trust_code: true", "trust_code=True", "MODELOPT_TRUST_CODE=1"):
        assert said in result.err.replace("\n", " ")
    assert ".pt2" in result.err
    assert watched() == []
    assert not Path("ran").exists()
    assert section["target"].partition(":")[0] == "subprocess" or "hostile" not in sys.modules
    assert not Path("out.pt2").exists()


def test_the_hook_sees_what_is_run(cli: Cli, model: dict[str, Any], watched: Callable[[], list[str]]) -> None:
    sys.modules.pop("nets", None)
    torch.save({**model, "architecture": PROCESS}, "m.pt")
    assert cli("predict", "m.pt", "new.csv", "--trust-code").code == 2  # no module comes of it
    assert any(event.startswith("subprocess.Popen") for event in watched())
    assert Path("ran").exists()
    torch.save({**model, "architecture": {**PROCESS, "target": "nets:build", "arguments": {}}}, "m.pt")
    watched().clear()
    cli("predict", "m.pt", "new.csv", "--trust-code")
    assert "exec" in watched()


def test_a_file_that_stands_for_another(cli: Cli, model: dict[str, Any], watched: Callable[[], list[str]]) -> None:
    torch.save({**model, "architecture": HOSTILE}, "inner.pt")
    torch.save({**model, "architecture": {"type": "checkpoint", "path": "inner.pt", "trust_code": True}}, "m.pt")
    watched().clear()
    assert cli("predict", "m.pt", "new.csv").code == 5
    torch.save({**model, "architecture": {"type": "checkpoint", "path": "run/model.pt"}}, "m.pt")
    assert cli("predict", "m.pt", "new.csv").code == 0
    torch.save({**model, "architecture": {"type": "checkpoint", "path": "m.pt"}}, "m.pt")
    assert cli("predict", "m.pt", "new.csv").code == 2
    assert watched() == []


def test_the_data_of_a_model(cli: Cli, model: dict[str, Any], watched: Callable[[], list[str]]) -> None:
    torch.save({**model, "data": {**PROCESS, "splits": SPLITS}}, "m.pt")
    watched().clear()
    refused = cli("evaluate", "m.pt")
    assert refused.code == 5
    assert "subprocess:call" in refused.err
    assert "--data FILE" in refused.err
    assert cli("predict", "m.pt", "new.csv").code == 0  # which needs no data of the file's
    assert watched() == []
    assert not Path("ran").exists()
    torch.save({**model, "data": {"type": "python", "target": "nets:data", "folder": ".", "splits": SPLITS}}, "m.pt")
    assert cli("evaluate", "m.pt").code == 5
    assert cli("evaluate", "m.pt", "--trust-code").code == 0


def test_a_type_of_another_package(
    cli: Cli, model: dict[str, Any], watched: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import EntryPoint

    from modelopt_cli.core import strategy

    own = strategy._foreign  # private: what installed packages declare is cached, and a test installs none
    point = EntryPoint("theirs", "hostile:Thing", "modelopt_cli.any")
    # Private: entry points come from installed packages alone.
    monkeypatch.setattr(strategy, "_foreign", lambda family: {**own(family), "theirs": point})
    for change in (
        {"architecture": {"type": "theirs"}},
        {"data": {"type": "theirs"}},
        {"data": {**model["data"], "augment": [{"type": "theirs"}]}},
        {"data": {**model["data"], "augment": ["theirs"]}},
    ):
        torch.save({**model, **change}, "m.pt")
        watched().clear()
        refused = cli("evaluate", "m.pt")
        assert refused.code == 5, refused.err
        assert "'hostile:Thing'" in refused.err
        assert watched() == []


@pytest.mark.slow
def test_with_consent(cli: Cli, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own.yaml").write_text(OWN)
    assert cli("train", "own.yaml", "--out", "own", "-q").code == 0
    commands = [
        ["evaluate", "own/model.pt"],
        ["predict", "own/model.pt", "new.csv"],
        ["inspect", "own/model.pt", "--groups"],
        ["export", "own/model.pt", "out.pt2", "--force"],
        ["train", "plain.yaml", "--set", "model={type: checkpoint, path: own/model.pt}"],
        ["distill", "plain.yaml", "--set", "distillation={teacher: own/model.pt}"],
        ["prune", "own/model.pt", "--amount", "0.5", "--experiment", "plain.yaml", "--force"],
    ]
    for command in commands:
        assert cli(*command).code == 5, command
        allowed = cli(*command, "--trust-code")
        assert allowed.code == 0, allowed.err
    for value, code in (("1", 0), ("true", 0), ("0", 5), ("", 5)):
        monkeypatch.setenv("MODELOPT_TRUST_CODE", value)
        assert cli("predict", "own/model.pt", "new.csv").code == code
    monkeypatch.delenv("MODELOPT_TRUST_CODE")
    for setting in (
        "model={type: checkpoint, path: own/model.pt, trust_code: true}",
        "distillation={teacher: {path: own/model.pt, trust_code: true}}",
    ):
        workflow = "train" if setting.startswith("model") else "distill"
        assert cli(workflow, "plain.yaml", "--set", setting).code == 0


@pytest.mark.slow
def test_in_python(cli: Cli, model: dict[str, Any]) -> None:
    Path("own.yaml").write_text(OWN)
    assert cli("train", "own.yaml", "--out", "own", "-q").code == 0
    for call in (
        lambda **more: evaluate("own/model.pt", **more),
        lambda **more: predict("own/model.pt", "new.csv", **more),
    ):
        with pytest.raises(RefusedError, match="nets:build"):
            call()
        assert call(trust_code=True)
    taught = {**load("plain.yaml").document, "distillation": {"teacher": "own/model.pt"}}
    with pytest.raises(RefusedError, match="nets:build"):
        distill(load(taught))
    assert distill(load(taught, trust_code=True)).metrics


@pytest.mark.slow
def test_the_experiment_file_is_consent_to_what_it_names(cli: Cli, model: dict[str, Any], tmp_path: Path) -> None:
    """Runs that read what they wrote ask for nothing; neither do files of the code that an experiment file names."""
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    assert cli("train", own, "--out", "own", "-q").code == 0
    assert cli("inspect", "own/model.pt", "--measure", "--experiment", own).code == 0
    assert cli("inspect", "own/model.pt", "--groups", "--experiment", own).code == 0
    assert cli("export", "own/model.pt", "out.pt2", "--experiment", own).code == 0
    assert cli("prune", "own/model.pt", "--amount", "0.5", "--experiment", own).code == 0
    taught = cli("distill", own, "--set", "distillation={teacher: own/model.pt}", "--set", "model.arguments.width=4")
    assert taught.code == 0, taught.err  # the same code, another width
    for change in (
        {"target": "hostile:run"},
        {"arguments": {"width": 8, "kind": "gelu"}},
        {"arguments": {"width": "8"}},
        {"arguments": {"width": True}},
    ):
        content = torch.load("own/model.pt", weights_only=True)
        torch.save({**content, "architecture": {**content["architecture"], **change}}, "m.pt")
        assert cli("inspect", "m.pt", "--measure", "--experiment", own).code == 5, change


def test_the_folder_is_the_experiments(cli: Cli, model: dict[str, Any], tmp_path: Path) -> None:
    """A model file that names the same target somewhere else gets the experiment's code, not that other one."""
    own = tmp_path / "own.yaml"
    own.write_text(OWN)
    assert cli("train", own, "--out", "own", "-q").code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "nets.py").write_text(CODE.replace("def run(word", "def build(inputs, outputs, width"))
    content = torch.load("own/model.pt", weights_only=True)
    content["architecture"]["folder"] = str(elsewhere)
    torch.save(content, "m.pt")
    assert cli("inspect", "m.pt", "--measure", "--experiment", own).code == 0
    assert not Path("ran").exists()


TUNED = """\
tuning: {objective: maximize validation.accuracy, workflow: WORKFLOW, sampler: random, trials: 2, executor: serial,
         space: {SPACE}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workflow", "section", "space"),
    [
        ("train", "", "training.batch_size: [16, 32]"),
        ("prune", "pruning: {amount: 0.5}\n", "pruning.amount: [0.3, 0.6]"),
        (
            "distill",
            "distillation: {teacher: {model: {type: python, target: 'nets:build', arguments: {width: 16}}, "
            "training: {epochs: 1}}}\n",
            "training.batch_size: [16, 32]",
        ),
    ],
)
def test_searches_of_own_code_ask_for_nothing(
    cli: Cli, model: dict[str, Any], tmp_path: Path, workflow: str, section: str, space: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(OWN + section + TUNED.replace("WORKFLOW", workflow).replace("SPACE", space))
    result = cli("tune", path, "--out", "search")
    assert result.code == 0, result.err
    assert cli("tune", path, "--out", "search", "--resume", "--trials", "3").code == 0
    again = cli(workflow, "search/best.yaml", "--out", "again")
    assert again.code == 0, again.err
    assert cli("predict", "again/model.pt", "new.csv").code == 5


def test_consent_is_no_other_experiment(cli: Cli, model: dict[str, Any], tmp_path: Path) -> None:
    """A run goes on with and without the flag: it computes the same."""
    from modelopt_cli.workflows.shared.run_files import check_unchanged

    taught = {**load("plain.yaml").document, "distillation": {"teacher": "run/model.pt"}}
    with_flag, without = load(taught, trust_code=True), load(taught)
    assert with_flag.resolved()["distillation"]["teacher"]["trust_code"] is True
    (tmp_path / "experiment.yaml").write_text(dump(without.resolved()).replace("    trust_code: false\n", ""))
    check_unchanged(tmp_path, with_flag)


METRIC = """\
from pathlib import Path

Path("ran").touch()


def gap(targets, predictions):
    return float(abs(targets - predictions).max())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["{type: mlp, hidden: [4]}", "{type: sklearn, estimator: sklearn.naive_bayes.GaussianNB}"]
)
def test_own_metrics_of_a_model_file(cli: Cli, tmp_path: Path, watched: Callable[[], list[str]], model: str) -> None:
    """They are computed where the user agrees, and told where not: the same numbers as when it was trained."""
    own = OWN.replace('{type: python, target: "nets:build", arguments: {width: 8}}', model)
    own = own if "mlp" in model else own.replace("training: {epochs: 2, batch_size: 32}\n", "")
    (tmp_path / "own.yaml").write_text(own + 'evaluation: {metrics: ["hostile:gap"]}\n')
    (tmp_path / "hostile.py").write_text(METRIC)
    assert cli("train", "own.yaml", "--out", "run", "-q").code == 0
    trained = json.loads(Path("run/report.json").read_text())["metrics"]["test.gap"]
    Path("ran").unlink()
    sys.modules.pop("hostile", None)
    watched().clear()
    left_out = cli("evaluate", "run/model.pt", "--json")
    assert left_out.code == 0
    report = json.loads(left_out.out)
    assert "test.gap" not in report["metrics"]
    assert any("'hostile:gap'" in text and "--trust-code" in text for text in report["warnings"])
    assert watched() == []
    assert not Path("ran").exists()
    agreed = json.loads(cli("evaluate", "run/model.pt", "--json", "--trust-code").out)
    assert agreed["metrics"]["test.gap"] == pytest.approx(trained)
    assert not any("hostile" in text for text in agreed["warnings"])
    assert "gap" in "".join(evaluate("run/model.pt", trust_code=True).metrics)
    assert cli("evaluate", "run/model.pt", "--trust-code", "--gate", "test.gap <= 100").code == 0
    (tmp_path / "hostile.py").unlink()
    sys.modules.pop("hostile", None)
    evaluated = json.loads(cli("evaluate", "run/model.pt", "--json", "--trust-code").out)
    assert "test.accuracy" in evaluated["metrics"]
    assert any("hostile:gap" in text for text in evaluated["warnings"])


def test_own_metrics_that_came_in_by_the_environment(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE_IT_LIES", "quite_secret_place")
    (tmp_path / "quite_secret_place.py").write_text(METRIC)
    own = OWN.replace('{type: python, target: "nets:build", arguments: {width: 8}}', "{type: mlp, hidden: [4]}")
    (tmp_path / "own.yaml").write_text(own + 'evaluation: {metrics: ["${WHERE_IT_LIES}:gap"]}\n')
    assert cli("train", "own.yaml", "--out", "run", "-q").code == 0
    assert b"quite_secret_place" not in Path("run/model.pt").read_bytes()
    assert "test.gap" in evaluate("run/model.pt", trust_code=True).metrics
    monkeypatch.delenv("WHERE_IT_LIES")
    assert any("WHERE_IT_LIES" in text for text in evaluate("run/model.pt", trust_code=True).warnings)


def test_outputs_that_are_no_numbers_are_told(cli: Cli, model: dict[str, Any]) -> None:
    torch.save({**model, "state": {name: tensor * float("nan") for name, tensor in model["state"].items()}}, "m.pt")
    result = cli("predict", "m.pt", "new.csv")
    assert result.code == 0
    assert "1 of 1 samples are not finite" in result.err.replace("\n", " ")
    assert "not finite" not in cli("predict", "run/model.pt", "new.csv").err
