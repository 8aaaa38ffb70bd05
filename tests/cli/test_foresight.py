"""A metric that will not be reported is refused before anything is trained, wherever it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Cli

TREE = """\
name: foreseen
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier}
tuning:
  objective: maximize validation.accuracy
  sampler: grid
  executor: serial
  space: {model.max_depth: [1, 2]}
"""
MLP = """\
name: foreseen
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [4]}
training: {epochs: 1}
"""
TEACHER = "distillation: {teacher: {model: {type: mlp, hidden: [4]}, training: {epochs: 1}}}\n"
CSV = MLP.replace("{type: iris,", "{type: csv, path: rows.csv, target: y,")


def write(text: str, name: str = "it.yaml") -> str:
    Path(name).write_text(text)
    return name


# what stands in the file -> its line, and what is said
REFUSED = {
    "an objective": (
        TREE.replace("validation.accuracy", "validation.acuracy"),
        ":5:",
        "did you mean 'validation.accuracy'?",
    ),
    "one of several": (
        TREE.replace("maximize validation.accuracy", "[maximize validation.accuracy, minimize model.size_byte]"),
        ":5:",
        "did you mean 'model.size_bytes'?",
    ),
    "no split before it": (TREE.replace("validation.accuracy", "accuracy"), ":5:", "'validation.accuracy'"),
    "another task's": (TREE.replace("validation.accuracy", "validation.rmse"), ":5:", "accuracy"),
    "a training's": (TREE.replace("validation.accuracy", "train.accuracy"), ":5:", "'validation.accuracy'"),
    "a loss of none": (TREE.replace("maximize validation.accuracy", "minimize validation.loss"), ":5:", "estimator"),
    "a constraint": (TREE + "  constraints: [model.flops <= 5]\n", ":9:", "model.size_bytes"),
    "a rule": (TREE + "  stop_when: {target: validation.acc >= 0.9}\n", ":9:", "'validation.accuracy'"),
    "a stopper": (
        TREE + "  stopper: {type: threshold, condition: validation.acc >= 0.9}\n",
        ":9:",
        "'validation.accuracy'",
    ),
    "a stopper of epochs": (
        MLP + "tuning:\n  objective: maximize validation.f1\n  space: {training.epochs: [1, 2]}\n"
        "  stopper: {type: threshold, condition: train.epochs <= 9}\n",
        ":8:",
        "while trials are under way",
    ),
    "a gate": (TREE + "gates: [test.acuracy >= 0.9]\n", ":9:", "did you mean 'test.accuracy'?"),
    "a gate on a misspelt split": (TREE + "gates: [tset.accuracy >= 0.9]\n", ":9:", "did you mean 'test.accuracy'?"),
    "a gate without its split": (
        TREE.replace("test: 0.2", "test: 0") + "gates: [test.accuracy >= 0.9]\n",
        ":9:",
        "there is no test split",
    ),
    "a gate of another workflow": (MLP + "gates: [test.accuracy_drop <= 0.1]\n", ":5:", "test.accuracy"),
    "a branch's": (
        TREE.replace(
            "{model.max_depth: [1, 2]}",
            "{model: {choice: [{type: mlp}, {type: sklearn, estimator: sklearn.svm.SVC}]}}",
        ).replace("maximize validation.accuracy", "minimize validation.loss")
        + "training: {epochs: 1}\n",
        ":5:",
        "when model = ",
    ),
    "a monitor": (
        MLP.replace("epochs: 1", "epochs: 1, patience: 1, monitor: validation.acc"),
        ":4:",
        "'validation.acc",
    ),
    "a monitor without its split": (
        MLP.replace("validation: 0.2", "validation: 0").replace("epochs: 1", "epochs: 1, patience: 1"),
        ":4:",
        "there is no validation split",
    ),
    "a recovery's": (
        MLP + "pruning: {amount: 0.5, recovery: {epochs: 1, monitor: validation.acuracy}}\n",
        ":5:",
        "'validation.accuracy'",
    ),
    "a teacher's": (
        MLP + TEACHER.replace("epochs: 1", "epochs: 1, patience: 1, monitor: validation.rmse"),
        ":5:",
        "validation.rmse",
    ),
    "a searched monitor": (
        MLP + "tuning:\n  objective: maximize validation.f1\n"
        "  space: {training.monitor: [validation.loss, validation.lost]}\n",
        ":7:",
        "'validation.loss'",
    ),
    "a metric of one's own": (MLP + "evaluation: {metrics: ['some:accuracy']}\n", ":5:", "rename"),
    "two of one name": (MLP + "evaluation: {metrics: ['some:cost', 'other:cost']}\n", ":5:", "rename"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_validate_refuses(cli: Cli, case: str) -> None:
    text, line, said = REFUSED[case]
    result = cli("validate", write(text))
    assert result.code == 2, result.out
    assert f"it.yaml{line}" in result.err, result.err
    assert said in result.err, result.err


ACCEPTED = {
    "sizes of estimators": TREE + "  constraints: [model.size_bytes <= 100_000]\n",
    "seconds": TREE.replace("maximize validation.accuracy", "minimize train.seconds"),
    "deviations of folds": TREE + "  constraints: [validation.f1_std <= 0.5]\nevaluation: {cv: 3}\n",
    "a metric of one's own": MLP + "evaluation: {metrics: ['some:cost']}\ngates: [validation.cost <= 9]\n",
    "a pruning's gate, of a file that is trained too": MLP
    + "pruning: {amount: 0.5}\ngates: [test.accuracy_drop <= 1, test.loss_rise <= 9, pruning.sparsity >= 0.1]\n",
    "a unit pruning's": MLP + "pruning: {amount: 0.5, structure: neurons, importance: l1}\n"
    "gates: [model.latency_ms_64 <= 99, model.macs <= 1e9, pruning.units_removed >= 0]\n",
    "a distillation's": MLP + TEACHER + "gates: [test.gap_closed >= -9, model.flops <= 1e9]\n",
    "either task's, of data that are not read": CSV + "gates: [test.rmse <= 9, test.f1_binary >= 0, test.loss <= 9]\n",
    "a branch's in a gate": TREE.replace(
        "{model.max_depth: [1, 2]}", "{model: {choice: [{type: mlp}, {type: sklearn, estimator: sklearn.svm.SVC}]}}"
    )
    + "training: {epochs: 1}\ngates: [validation.loss <= 9]\n",
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_validate_accepts(cli: Cli, case: str) -> None:
    result = cli("validate", write(ACCEPTED[case]))
    assert result.code == 0, result.err


def rows(kind: str, name: str = "rows.csv") -> None:
    lines = [f"{i % 7},{i % 5 * 0.5},{'ab'[i % 2] if kind == 'classes' else i * 0.37}" for i in range(60)]
    Path(name).write_text("x,z,y\n" + "\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "tune", "prune", "distill"])
@pytest.mark.parametrize("dry", [True, False])
def test_a_gate_of_the_command_line_is_refused_before_any_work(cli: Cli, command: str, dry: bool) -> None:
    text = MLP + "pruning: {amount: 0.5}\n" + TEACHER + "tuning:\n  objective: maximize validation.f1\n"
    write(text + "  executor: serial\n  space: {training.epochs: [1, 2]}\n")
    words = ["--dry-run"] if dry else []
    misspelt = cli(command, "it.yaml", "--gate", "test.acuracy >= 0.5", *words)
    assert misspelt.code == 2
    assert "did you mean 'test.accuracy'?" in misspelt.err
    unread = cli(command, "it.yaml", "--gate", "test.accuracy=0.5", *words)
    assert unread.code == 2
    assert "no condition" in unread.err
    assert not list(Path().glob("runs/*/*/report.json"))
    if dry:
        assert cli(command, "it.yaml", "--gate", "test.accuracy >= 0.5", *words).code == 0


def test_what_only_the_data_tell_is_refused_once_they_are_read(cli: Cli) -> None:
    rows("numbers")
    write(CSV + "gates: [test.f1 >= 0.5]\n")
    assert cli("validate", "it.yaml").code == 0
    for words in (["--dry-run"], []):
        refused = cli("train", "it.yaml", *words)
        assert refused.code == 2
        assert "it.yaml:5:" in refused.err
        assert "test.rmse" in refused.err or "rmse" in refused.err
    rows("classes", "others.csv")
    assert cli("train", "it.yaml", "--quiet", "--set", "data.path=others.csv").code in (0, 3)
    tuned = write(TREE.replace("{type: iris,", "{type: csv, path: rows.csv, target: y,"), "tuned.yaml")
    assert cli("tune", tuned, "--dry-run", "--set", "tuning.objective=minimize validation.accuracy").code == 2


def test_an_estimator_without_probabilities_has_no_log_loss(cli: Cli) -> None:
    centroid = TREE.replace("tree.DecisionTreeClassifier", "svm.SVC").replace(
        "model.max_depth: [1, 2]", "model.C: [1, 2]"
    )
    write(centroid.replace("maximize validation.accuracy", "minimize validation.log_loss"))
    refused = cli("tune", "it.yaml")
    assert refused.code == 2
    assert "it.yaml:5:" in refused.err
    assert "validation.log_loss" in refused.err
    assert cli("tune", "it.yaml", "--quiet", "--set", "tuning.objective=maximize validation.roc_auc").code == 0


def test_sizes_of_estimators(cli: Cli) -> None:
    """As the estimator is stored; a front of accuracy and size."""
    objective = "[maximize validation.accuracy, minimize model.size_bytes]"
    write(TREE.replace("maximize validation.accuracy", objective))
    result = cli("tune", "it.yaml", "--json", "--gate", "model.size_bytes <= 100_000")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    table = report["tables"]["trials"]
    small, large = (row[table["columns"].index("model.size_bytes")] for row in table["rows"])
    assert 0 < small < large
    from modelopt_cli.models.files import checkpoints

    content = checkpoints.read(report["artefacts"]["model"])
    assert report["metrics"]["model.size_bytes"] == content["state"].numel()
    assert cli("tune", "it.yaml", "-q", "--gate", "model.size_bytes <= 10").code == 3


def test_evaluate_refuses_gates_on_what_it_does_not_compute(cli: Cli) -> None:
    write(MLP)
    assert cli("train", "it.yaml", "-q", "--out", "run").code == 0
    near = cli("evaluate", "run/model.pt", "--gate", "test.acuracy >= 0.5")
    assert near.code == 2
    assert "did you mean 'test.accuracy'?" in near.err
    assert cli("evaluate", "run/model.pt", "--split", "validation", "--gate", "test.accuracy >= 0").code == 2
    assert cli("evaluate", "run/model.pt", "--gate", "test.accuracy >= 0").code == 0


def test_a_file_of_weights_is_not_pruned_for_a_gate_on_what_is_not_there(cli: Cli) -> None:
    import torch

    torch.save({"a.weight": torch.randn(8, 8)}, "w.pt")
    refused = cli("prune", "w.pt", "--amount", "0.5", "--gate", "model.sparsty >= 0.4")
    assert refused.code == 2
    assert "did you mean 'model.sparsity'?" in refused.err
    assert not Path("w.pruned.pt").exists()
    assert cli("prune", "w.pt", "--amount", "0.5", "--gate", "model.sparsity >= 0.4").code == 0


def test_best_yaml_runs_without_gates_on_what_a_search_alone_reports(cli: Cli) -> None:
    text = TREE.replace("sampler: grid", "sampler: random\n  trials: 2\n  stopper: asha\n  fidelity: {least: 0.3}")
    write(text + "gates: [train.samples >= 1, test.accuracy >= 0]\n")
    result = cli("tune", "it.yaml", "-q", "--out", "run")
    assert result.code == 0, result.err
    assert cli("train", "run/best.yaml", "-q").code == 0
    assert "train.samples" not in Path("run/best.yaml").read_text()


OWN = """\
import numpy as np


def cost(targets, predictions):
    return float((np.asarray(targets) != np.asarray(predictions)).sum())


def alone(targets):
    return 0.0
"""


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder, not the working one, with an experiment file and the module of its metric."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own_metric_beside.py").write_text(OWN)
    text = TREE.replace("maximize validation.accuracy", "minimize validation.cost")
    (folder / "it.yaml").write_text(text + "evaluation: {metrics: ['own_metric_beside:cost']}\n")
    return folder / "it.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_metrics_are_found_beside_the_file(cli: Cli, beside: Path, executor: str) -> None:
    words = ["--set", f"tuning.executor={executor}", "--set", "tuning.workers=1", "--out", "run"]
    result = cli("tune", beside, "--json", *words)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert "test.cost" in report["metrics"]
    states = [row[report["tables"]["trials"]["columns"].index("state")] for row in report["tables"]["trials"]["rows"]]
    assert states == ["completed", "completed"]
    assert cli("train", "run/best.yaml", "-q").code == 0  # which lies elsewhere
    module = ["--set", "tuning=null", "--set", "model={type: mlp}", "--set", "training={epochs: 1}"]
    assert cli("train", beside, "-q", *module).code == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own_metric_beside:cots", "Did you mean 'cost'?"),
        ("nowhere:cost", "no module"),
        ("own_metric_beside:alone", "two"),
    ],
)
def test_a_metric_that_cannot_be_called_is_refused_before_the_first_trial(
    cli: Cli, beside: Path, target: str, message: str
) -> None:
    words = ["--set", f"evaluation.metrics=['{target}']", "--set", "tuning.objective=maximize validation.accuracy"]
    for more in (["--dry-run"], []):
        result = cli("tune", beside, *words, *more)
        assert result.code == 2
        assert message in result.err
    assert not list(Path().glob("runs/*/*/study.sqlite"))


REGRESSION = """\
name: it
data: {type: diabetes, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [4]}
training: {epochs: 2, loss: LOSS}
"""
PRUNED = "pruning: {amount: 0.5, recovery: {epochs: 1}}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("train", MLP),
        ("train", MLP.replace("epochs: 1", "epochs: 1, label_smoothing: 0.3, class_weights: balanced")),
        ("train", REGRESSION.replace("LOSS", "mae")),
        ("train", REGRESSION.replace("LOSS", "auto")),
        ("prune", REGRESSION.replace("LOSS", "huber") + PRUNED),
        ("prune", MLP + PRUNED.replace("amount", "structure: neurons, importance: l1, amount")),
        ("distill", MLP + TEACHER),
    ],
)
def test_evaluate_gives_the_loss_that_the_report_has(
    cli: Cli, command: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelopt_cli.workflows.shared import costs

    monkeypatch.setattr(costs, "SECONDS", 0.01)
    assert cli(command, write(text), "-q", "--out", "run").code == 0
    report = json.loads(Path("run/report.json").read_text())
    for split in ("validation", "test"):
        judged = cli("evaluate", "run/model.pt", "--split", split, "--json", "--gate", f"{split}.loss <= 1e9")
        assert judged.code == 0, judged.err
        assert json.loads(judged.out)["metrics"][f"{split}.loss"] == pytest.approx(report["metrics"][f"{split}.loss"])


def test_patience_with_folds_ends_the_final_training_as_the_folds_did(cli: Cli) -> None:
    """No split is left to end it by: that was found after all folds had been trained."""
    text = MLP.replace("validation: 0.2, ", "").replace("epochs: 1", "epochs: 4, patience: 1, keep: best")
    result = cli("train", write(text + "evaluation: {cv: 2}\n"), "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["metrics"]["train.epochs"] <= 4
