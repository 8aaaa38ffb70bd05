"""`modelopt distill`: tables, JSON, plans, paths, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.cli import Cli

BASE = """\
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [6]}
training: {epochs: 2, batch_size: 16, optimizer: {type: sgd, lr: 0.1}}
distillation:
  teacher:
    model: {type: mlp, hidden: [16]}
    training: {epochs: 3, batch_size: 16, optimizer: {type: sgd, lr: 0.1}}
  losses:
    - {type: labels, weight: 0.1}
    - {type: soft_targets, weight: 0.9}
"""
TEACHER = "\n".join(BASE.splitlines()[4:7])  # without the last line's end


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelopt_cli.workflows.shared.costs.SECONDS", 0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(BASE)
    return path


def with_teacher(text: str) -> str:
    """The file with another `teacher` (one line)."""
    return BASE.replace(TEACHER, f"  {text}")


def test_table(cli: Cli, file: Path) -> None:
    result = cli("distill", file)
    assert result.code == 0, result.err
    for part in ("small: the models", "teacher", "student alone", "student", "best epoch", "costs", "model.pt"):
        assert part in result.out
    folder = Path("runs/small/1")
    assert {"model.pt", "teacher.pt", "report.json", "experiment.yaml"} <= {path.name for path in folder.iterdir()}
    quiet = cli("distill", file, "--quiet")
    assert "best epoch" not in quiet.out
    assert "costs" not in quiet.out
    assert "student alone" in quiet.out
    assert Path("runs/small/2/model.pt").exists(), "the first run stays"


def test_json_and_show(cli: Cli, file: Path) -> None:
    result = cli("distill", file, "--json")
    report = json.loads(result.out)
    assert report["workflow"] == "distill"
    assert [row[0] for row in report["tables"]["learners"]["rows"][::2]] == ["teacher", "student alone", "student"]
    assert json.loads(Path("runs/small/1/report.json").read_text())["metrics"] == report["metrics"]
    shown = cli("show", "runs/small/1")
    assert shown.code == 0, shown.err
    assert "student alone" in shown.out


def test_seeds(cli: Cli, file: Path) -> None:
    result = cli("distill", file, "--set", "seeds=2")
    assert result.code == 0, result.err
    assert "(mean ± deviation of 2 seeds)" in result.out
    assert " ± " in result.out
    assert Path("runs/small/1/seed-1/model.pt").exists()


def test_without_a_baseline_it_says_so(cli: Cli, file: Path) -> None:
    result = cli("distill", file, "--set", "distillation.baseline=false")
    assert "the student was not trained alone (baseline: false)" in result.out
    assert result.code == 0


def test_gates(cli: Cli, file: Path) -> None:
    result = cli("distill", file, "--gate", "test.accuracy >= 1.1")
    assert result.code == 3
    assert "test.accuracy >= 1.1" in result.out + result.err


def test_a_plan(cli: Cli, file: Path) -> None:
    result = cli("distill", file, "--dry-run")
    assert result.code == 0, result.err
    assert not Path("runs").exists()
    plan = json.loads(cli("distill", file, "--dry-run", "--json").out)["plan"]
    assert plan["epochs"] == 3 + 2 + 2
    assert set(plan["members"]) == {"teacher", "student alone", "student"}


@pytest.mark.slow
def test_the_teacher_as_a_bare_path_counts_from_the_files_folder(cli: Cli, file: Path, tmp_path: Path) -> None:
    assert cli("distill", file).code == 0
    first = Path("runs/small/1/model.pt").read_bytes()
    (tmp_path / "sub").mkdir()
    Path("runs/small/1/teacher.pt").rename(tmp_path / "sub/big.pt")
    (tmp_path / "sub/named.yaml").write_text(with_teacher("teacher: big.pt"))
    result = cli("distill", "sub/named.yaml", "--out", "named")
    assert result.code == 0, result.err
    assert len(first) == len(Path("named/model.pt").read_bytes())
    saved = yaml.safe_load(Path("named/experiment.yaml").read_text())
    assert saved["distillation"]["teacher"]["path"] == str(tmp_path / "sub/big.pt")
    again = cli("distill", "named/experiment.yaml", "--out", "again")
    assert again.code == 0, again.err
    (tmp_path / "sub/small.yaml").write_text(BASE)
    result = cli("distill", "sub/small.yaml", "--set", "distillation.teacher=big.pt", "--out", "set")
    assert result.code == 0, result.err
    assert not Path("set/teacher.pt").exists(), "it is there already"
    listed = BASE.replace(TEACHER, "  teachers: [big.pt, {path: big.pt, weight: 2.0}]")
    (tmp_path / "sub/several.yaml").write_text(listed)
    assert cli("distill", "sub/several.yaml", "--out", "several").code == 0


def test_predict_and_evaluate_the_student(cli: Cli, file: Path) -> None:
    assert cli("distill", file, "--out", "run").code == 0
    result = cli("evaluate", "run/model.pt", "--json")
    report = json.loads(Path("run/report.json").read_text())
    accuracy = json.loads(result.out)["metrics"]["test.accuracy"]
    assert accuracy == pytest.approx(report["metrics"]["test.accuracy"])
    assert cli("validate", file).code == 0


CASES = {
    "no teacher": (BASE.replace(TEACHER + "\n", ""), ["bad.yaml:5:3", "exactly one of teacher, teachers, ema, mutual"]),
    "two sources": (BASE + "  ema: {decay: 0.9}\n", ["bad.yaml:5:3", "found teacher and ema"]),
    "an unknown loss": (BASE.replace("type: soft_targets", "type: soft_target"), ["bad.yaml:10", "soft_targets"]),
    "an unknown option": (
        BASE.replace("type: soft_targets", "type: soft_targets, temprature: 3"),
        ["bad.yaml:10", "temperature"],
    ),
    "no loss of a teacher": (
        BASE.replace("    - {type: soft_targets, weight: 0.9}\n", ""),
        ["bad.yaml:5:3", "no loss looks at the teacher"],
    ),
    "a cold temperature": (BASE.replace("soft_targets,", "soft_targets, temperature: 0,"), ["bad.yaml:10", "0"]),
    "a tap too few": (BASE.replace("type: soft_targets", "type: fitnets"), ["bad.yaml:10", "taps"]),
    "an unknown tap": (
        BASE.replace("type: soft_targets", "type: fitnets, taps: [layer.0]"),
        ["has no module 'layer.0'", "layers.0"],
    ),
    "a tap that gives a shape of its own": (
        BASE.replace("type: soft_targets", "type: attention_transfer, taps: [layers.0]"),
        ["attention_transfer", "tap another module"],
    ),
    "a loss for another task": (
        BASE.replace("type: iris", "type: diabetes"),
        ["soft_targets", "regression", "use mse"],
    ),
    "a teacher's file that is missing": (with_teacher("teacher: no.pt"), ["no.pt"]),
    "a teacher's file that is no model": (with_teacher("teacher: broken.pt"), ["broken.pt"]),
    "a folder as a teacher": (with_teacher("teacher: ."), ["is a folder, not a model.pt"]),
    "an untrained teacher": (
        with_teacher("teacher: {model: {type: mlp}}"),
        ["bad.yaml:5", "would teach untrained", "training"],
    ),
    "a teacher of a path and a model": (
        with_teacher("teacher: {path: a.pt, model: {type: mlp}}"),
        ["bad.yaml:5", "found both"],
    ),
    "an empty teacher": (with_teacher("teacher: {}"), ["bad.yaml:5", "found neither"]),
    "weights that are trained once more": (
        with_teacher("teacher: {model: {type: mlp}, weights: w.pt, training: {epochs: 2}}"),
        ["bad.yaml:5", "weights", "training"],
    ),
    "a number as a teacher": (with_teacher("teacher: 3"), ["bad.yaml:5"]),
    "a scikit-learn student": (
        BASE.replace("type: mlp, hidden: [6]", "type: sklearn, estimator: sklearn.svm.SVC"),
        ["distillation trains torch models"],
    ),
    "cross-validation": (BASE + "evaluation: {cv: 3}\n", ["cross-validation", "evaluation.cv"]),
    "no training": ("\n".join(line for line in BASE.splitlines() if not line.startswith("training")), ["training"]),
    "no distillation": (BASE.partition("distillation")[0], ["no distillation section", "distillation:"]),
    "assistants of nobody": (
        BASE.replace(TEACHER, "  ema: {}\n  assistants: [{model: {type: mlp}}]"),
        ["bad.yaml:5:3", "assistants stand between"],
    ),
    "an assistant without a model": (BASE + "  assistants: [{seed: 1}]\n", ["bad.yaml", "assistants.0 needs a model"]),
    "generations of peers": (
        BASE.replace(TEACHER, "  mutual: {}\n  generations: 2"),
        ["bad.yaml:5:3", "generations need a teacher that is finished"],
    ),
    "peers that are not counted": (
        BASE.replace(TEACHER, "  mutual: {count: 3, models: [{type: mlp}]}"),
        ["bad.yaml:5", "count is 3"],
    ),
    "a class that is not there": (BASE + "  leave_out: [setsa]\n", ["setsa", "setosa"]),
    "a cache of what changes": (
        BASE.replace(TEACHER, "  ema: {}") + "  cache: {where: memory}\n",
        ["bad.yaml:5:3", "nothing can be kept"],
    ),
    "more views than asked": (BASE + "  cache: {views: 0}\n", ["bad.yaml:11", "views"]),
    "as many logits as there are": (BASE + "  cache: {top_k: 3}\n", ["top_k is 3", "3"]),
    "peers with taps": (
        BASE.replace(TEACHER, "  mutual: {}").replace("type: soft_targets", "type: fitnets, taps: [layers.0]"),
        ["bad.yaml:5:3", "mutual learning compares outputs"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "plan"])
def test_bad_files(cli: Cli, case: str, more: tuple[str, ...]) -> None:
    text, parts = CASES[case]
    Path("bad.yaml").write_text(text)
    Path("broken.pt").write_bytes(b"not a model")
    result = cli("distill", "bad.yaml", *more)
    assert result.code == 2, (result.out, result.err)
    assert "Traceback" not in result.err
    assert "internal error" not in result.err
    for part in parts:
        assert part in result.err, result.err
    assert result.err.count("error:") <= 1
    assert not list(Path().glob("runs/*/*/*.pt"))


@pytest.mark.parametrize("section", ["teacher: evil.pt", "teacher: {model: {type: mlp}, weights: evil.pt}"])
def test_a_teacher_that_would_run_code_is_refused(cli: Cli, section: str) -> None:
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("echo hacked > hacked",)

    Path("evil.pt").write_bytes(pickle.dumps({"modelopt": 1, "model": Evil()}))
    Path("evil.yaml").write_text(with_teacher(section))
    result = cli("distill", "evil.yaml")
    assert result.code == 5, result.err
    assert "evil.pt" in result.err
    assert not Path("hacked").exists()


def test_a_bad_value_on_the_command_line(cli: Cli, file: Path) -> None:
    result = cli("distill", file, "--set", "distillation.losses.1.temperature=-1")
    assert result.code == 2
    assert "temperature" in result.err
    result = cli("distill", file, "--set", "distillation.techer=a.pt")
    assert result.code == 2
    assert "teacher" in result.err


@pytest.mark.slow
def test_a_search_over_distillations(cli: Cli, file: Path) -> None:
    tuning = (
        "tuning:\n  workflow: distill\n  objective: maximize validation.accuracy\n  trials: 2\n  executor: serial\n"
    )
    tuning += "  sampler: random\n  space: {distillation.losses.1.temperature: {float: [1, 9]}}\n"
    file.write_text(BASE + tuning)
    result = cli("tune", file)
    assert result.code == 0, result.err
    again = cli("distill", "runs/small/1/best.yaml")
    assert again.code == 0, again.err
    file.write_text(BASE + tuning.replace("losses.1.temperature", "losses.1.temprature"))
    result = cli("tune", file)
    assert result.code == 2
    assert "temperature" in result.err
