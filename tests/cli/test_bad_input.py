"""Bad input: one clear error with value, rule and remedy, the documented exit code, nothing lost, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Cli

BASE = """\
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training:
  epochs: 2
  batch_size: 32
  optimizer: {type: sgd, lr: 0.05}
tuning:
  objective: maximize validation.accuracy
  sampler: random
  trials: 3
  executor: serial
  space:
    training.optimizer.lr: {float: [0.01, 0.1]}
"""
FOREST = "data: {type: iris}\nmodel: {type: sklearn, estimator: sklearn.ensemble.RandomForestClassifier}\n"

CASES = {
    "not YAML": (BASE + "  bad: [1, 2\n", ["bad.yaml:"]),
    "a typo in a key": (BASE.replace("epochs", "epocs"), ["bad.yaml:4:3", "epocs", "epochs"]),
    "a typo at the top": (BASE.replace("training:\n", "trainning:\n"), ["bad.yaml:3:1", "training"]),
    "a wrong type": (BASE.replace("epochs: 2", "epochs: two"), ["bad.yaml:4:11", "two"]),
    "a quoted number": (BASE.replace("lr: 0.05", 'lr: "0.05"'), ["bad.yaml:6", "0.05"]),
    "a path that names nothing": (
        BASE.replace("training.optimizer.lr:", "training.optimiser.lr:"),
        ["bad.yaml:13:5", "training.optimizer.lr"],
    ),
    "an empty choice": (BASE.replace("{float: [0.01, 0.1]}", "[]"), ["bad.yaml:13", "nothing to choose from"]),
    "low above high": (BASE.replace("[0.01, 0.1]", "[0.1, 0.01]"), ["bad.yaml:13", "0.1", "0.01"]),
    "log with low 0": (BASE.replace("[0.01, 0.1]}", "[0, 0.1], log: true}"), ["bad.yaml:13", "log"]),
    "an unknown optimizer": (BASE.replace("type: sgd", "type: sdg"), ["bad.yaml:6", "sgd"]),
    "an unknown optimizer argument": (BASE.replace("lr: 0.05", "lr: 0.05, momentun: 0.9"), ["bad.yaml:6", "momentum"]),
    "an unknown sampler": (BASE.replace("sampler: random", "sampler: randm"), ["bad.yaml:9", "random"]),
    "a bound outside the option's range": (
        BASE.replace("training.optimizer.lr: {float: [0.01, 0.1]}", "model.dropout: {float: [0.0, 1.5]}"),
        ["bad.yaml:13", "1.5"],
    ),
    "the same key twice": (BASE + "seed: 1\nseed: 2\n", ["bad.yaml:15:1", "seed"]),
    "an unset environment variable": (
        BASE + "name: ${NO_SUCH_VARIABLE_HERE}\n",
        ["bad.yaml:14", "NO_SUCH_VARIABLE_HERE"],
    ),
    "no data": (BASE.replace("data: {type", "name: x #"), ["data"]),
    "an objective on the test split": (BASE.replace("maximize validation", "maximize test"), ["bad.yaml:8", "test"]),
    "batch size above the data": (BASE.replace("batch_size: 32", "batch_size: 5000"), ["5000", "batch_size"]),
    "unknown estimator": (
        FOREST.replace("RandomForestClassifier", "RandomForestClasifier"),
        ["RandomForestClassifier"],
    ),
    "unknown estimator module": (FOREST.replace("sklearn.ensemble", "sklern.ensemble"), ["sklern"]),
    "unknown estimator argument": (FOREST.replace("Classifier}", "Classifier, n_estimator: 3}"), ["n_estimators"]),
    "forbidden estimator value": (FOREST.replace("Classifier}", "Classifier, n_estimators: -3}"), ["n_estimators"]),
    "unknown model target": (
        BASE.replace("type: mlp, hidden: [8]", "type: python, target: 'no_such:build'"),
        ["no_such"],
    ),
    "not a target": (
        BASE.replace("type: mlp, hidden: [8]", "type: python, target: models.build"),
        ["module:attribute"],
    ),
    "CUDA asked for and absent": (BASE + "device: cuda\n", ["cuda", "cpu"]),
    "no such data file": (BASE.replace("type: iris", "type: csv, path: no.csv, target: y"), ["no.csv"]),
    "no such column": (BASE.replace("type: iris", "type: csv, path: some.csv, target: clas"), ["clas", "class"]),
    "one class only": (BASE.replace("type: iris", "type: csv, path: some.csv, target: same"), ["class"]),
    "a metric that does not exist": (BASE.replace("validation.accuracy", "validation.acuracy"), ["acuracy"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("command", ["tune", "train"])
def test_bad_files(cli: Cli, case: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if "CUDA" in case and torch.cuda.is_available():
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    text, parts = CASES[case]
    if command == "train" and case == "a metric that does not exist":
        pytest.skip("the objective plays no part in train")
    if command == "tune" and text.startswith(FOREST[:20]) and "tuning" not in text:
        text += "tuning: {objective: maximize validation.accuracy, sampler: grid, executor: serial,\n"
        text += "  space: {model.max_features: [1, 2]}}\n"
    Path("bad.yaml").write_text(text)
    rows = "\n".join(f"{i},{'ab'[i % 2]},x" for i in range(40))
    Path("some.csv").write_text(f"size,class,same\n{rows}\n")
    result = cli(command, "bad.yaml")
    assert result.code in (2, 4), (result.out, result.err)
    assert "Traceback" not in result.err
    assert "internal error" not in result.err
    for part in parts:
        assert part in result.err, result.err
    assert not list(Path().glob("runs/*/*/model.pt"))


def test_missing_file_and_folder(cli: Cli, tmp_path: Path) -> None:
    missing = cli("tune", "no.yaml")
    assert missing.code == 2
    assert "no.yaml" in missing.err
    assert cli("tune", tmp_path).code == 2
    assert cli("tune").code == 2
    assert cli("tune", "no.yaml", "--no-such-option").code == 2
    assert cli("nonsense").code == 2


def test_a_file_that_would_run_code_is_refused(cli: Cli, quick: Path) -> None:
    Path("evil.yaml").write_text("name: !!python/object/apply:os.system ['echo hacked > hacked']\n")
    assert cli("validate", "evil.yaml").code in (2, 5)
    assert not Path("hacked").exists()
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("echo hacked > hacked",)

    Path("evil.pt").write_bytes(pickle.dumps({"modelopt": 1, "model": Evil()}))
    result = cli("evaluate", "evil.pt")
    assert result.code == 5, result.err
    assert not Path("hacked").exists()


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 broken"])
def test_a_damaged_model(cli: Cli, content: bytes) -> None:
    Path("model.pt").write_bytes(content)
    assert cli("evaluate", "model.pt").code == 2
    assert cli("evaluate", "no.pt").code == 2


def test_an_output_folder_that_cannot_be_made(cli: Cli, quick: Path) -> None:
    Path("file").write_text("")
    result = cli("tune", quick, "--out", "file/below")
    assert result.code == 6
    assert "--out" in result.err
    assert cli("tune", quick, "--out", "/proc/modelopt-test").code == 6


@pytest.mark.slow
def test_a_run_directory_in_use(cli: Cli, quick: Path, tmp_path: Path) -> None:
    assert cli("tune", quick, "--out", "mine").code == 0
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from modelopt_cli.results.run_directory import RunDirectory\n"
            "d = RunDirectory.create_at(Path('mine'), resume=True); print('locked', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    result = cli("tune", quick, "--out", "mine", "--resume")
    assert result.code == 6
    assert str(holder.pid) in result.err
    assert json.loads(cli("runs", "--json").out) == []
    holder.kill()
    holder.communicate()
    assert cli("tune", quick, "--out", "mine", "--resume").code == 0


def test_every_trial_failing(cli: Cli, quick: Path) -> None:
    result = cli(
        "tune",
        quick,
        "--set",
        "tuning.space={training.optimizer.lr: [1.0e+30, 1.0e+35]}",
        "--set",
        "training.optimizer.lr=1.0e+32",
    )
    assert result.code == 4, (result.out, result.err)
    assert "every trial failed" in result.err
    assert len(json.loads(Path("runs/quick/1/trials.json").read_text())) == 2, "the table is kept"


def test_too_many_failures_in_a_row(cli: Cli, quick: Path) -> None:
    result = cli(
        "tune",
        quick,
        "--set",
        "tuning.space.training.optimizer.lr={float: [1.0e+30, 1.0e+35]}",
        "--set",
        "tuning.max_failures=2",
        "--set",
        "training.optimizer.lr=1.0e+32",
    )
    assert result.code == 4, (result.out, result.err)
    assert "2 trials failed in a row" in result.err


def test_errors_with_json_are_json(cli: Cli) -> None:
    result = cli("tune", "no.yaml", "--json")
    error = json.loads(result.out)["error"]
    assert error["exit_code"] == result.code == 2
    assert "no.yaml" in error["message"]


def test_a_damaged_store(cli: Cli, quick: Path) -> None:
    assert cli("tune", quick).code == 0
    store = Path("runs/quick/1/study.sqlite")
    store.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    for extra in store.parent.glob("study.sqlite-*"):
        extra.unlink()
    result = cli("tune", quick, "--resume")
    assert result.code == 6, result.err
    assert "damaged" in result.err


def test_too_small_a_terminal_does_no_harm(cli: Cli, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert cli("tune", quick).code == 0


FRACTIONS = "a,b,share\n" + "".join(f"{n % 7},{n % 5},{n / 41:.3f}\n" for n in range(40))
QUALITIES = "a,b,share\n" + "".join(f"{n % 7},{n % 5},{n % 4 + 3}\n" for n in range(40))


@pytest.mark.parametrize(
    ("table", "estimator", "rule"),
    [
        (FRACTIONS, "sklearn.ensemble.RandomForestClassifier", "a classifier, but the task is regression"),
        (QUALITIES, "sklearn.linear_model.LinearRegression", "a regressor, but the task is classification"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_estimator_and_task_must_agree(cli: Cli, table: str, estimator: str, rule: str, dry: tuple[str, ...]) -> None:
    Path("table.csv").write_text(table)
    Path("e.yaml").write_text(
        "version: 1\ndata: {type: csv, path: table.csv, target: share}\n"
        f"model: {{type: sklearn, estimator: {estimator}}}\n"
        "tuning: {objective: minimize train.seconds, sampler: random, trials: 2, space: {data.standardize: [true]}}\n"
    )
    for command in ("train", "tune"):
        result = cli(command, "e.yaml", *dry)
        assert result.code == 2, result
        assert rule in result.err
        assert not list(Path("runs").rglob("model.pt"))
