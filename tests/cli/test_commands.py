"""Every command, end to end on small data."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from modelopt_cli.cli.commands.init import templates
from tests.support.cli import Cli

CONFIGS = Path(__file__).parents[2] / "configs"


def test_tune_leaves_a_complete_run_directory(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick)
    assert result.code == 0, result.err
    assert "best setting" in result.out
    run = Path("runs/quick/1")
    files = {path.name for path in run.iterdir()}
    expected = "experiment.yaml environment.json study.sqlite trials.csv trials.json best.yaml report.json model.pt"
    assert set(expected.split()) <= files
    report = json.loads((run / "report.json").read_text())
    rows = list(csv.DictReader(io.StringIO((run / "trials.csv").read_text())))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[0]["origin"] == "file"
    assert float(rows[0]["training.optimizer.lr"]) == 0.01
    best = max(float(row["validation.accuracy"]) for row in rows)
    assert report["metrics"]["validation.accuracy"] == pytest.approx(best)
    assert report["plan"]["estimated_seconds"] > 0
    assert report["plan"]["actual_seconds"] > 0


def test_best_yaml_runs_as_it_stands_and_repeats_the_best_trial(cli: Cli, quick: Path) -> None:
    assert cli("tune", quick, "--quiet").code == 0
    report = json.loads(Path("runs/quick/1/report.json").read_text())
    result = cli("train", "runs/quick/1/best.yaml", "--json")
    assert result.code == 0, result.err
    again = json.loads(result.out)
    for name in ("validation.accuracy", "validation.loss", "test.accuracy", "test.loss"):
        assert again["metrics"][name] == pytest.approx(report["metrics"][name], abs=1e-6), name


def test_json_puts_one_document_on_standard_output(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--json")
    report = json.loads(result.out)
    assert report["workflow"] == "tune"
    assert report["best"]["params"]
    assert report["status"] == "completed"


def test_gates_decide_the_exit_code(cli: Cli, quick: Path) -> None:
    met = cli("train", quick, "--gate", "test.accuracy >= 0.0")
    assert met.code == 0
    missed = cli("train", quick, "--gate", "test.accuracy >= 1.1", "--gate", "test.accuracy >= 0")
    assert missed.code == 3
    assert "test.accuracy >= 1.1" in missed.err
    assert "margin -" in missed.err
    absent = cli("tune", quick, "--gate", "test.accuraci >= 0.5")
    assert absent.code == 2
    assert "did you mean 'test.accuracy'?" in absent.err
    assert cli("train", quick, "--gate", "nonsense").code == 2


@pytest.mark.slow
def test_evaluate_and_predict_use_the_model_alone(cli: Cli, quick: Path, tmp_path: Path) -> None:
    assert cli("train", quick, "--out", "mine").code == 0
    report = json.loads(Path("mine/report.json").read_text())
    evaluated = cli("evaluate", "mine/model.pt", "--json")
    assert json.loads(evaluated.out)["metrics"]["test.accuracy"] == report["metrics"]["test.accuracy"]
    for split in ("train", "validation"):
        assert cli("evaluate", "mine/model.pt", "--split", split).code == 0
    assert cli("evaluate", "mine/model.pt", "--split", "tset").code == 2
    assert cli("evaluate", "mine/model.pt", "--gate", "test.accuracy >= 1.1").code == 3
    from sklearn.datasets import load_iris

    iris = load_iris(as_frame=True)
    iris.data.to_csv("new.csv", index=False)
    predicted = cli("predict", "mine/model.pt", "new.csv")
    rows = list(csv.DictReader(io.StringIO(predicted.out)))
    assert len(rows) == 150
    assert {row["label"] for row in rows} <= {"setosa", "versicolor", "virginica"}
    for row in rows[:5]:
        shares = [float(value) for name, value in row.items() if name.startswith("probability_")]
        assert sum(shares) == pytest.approx(1.0, abs=1e-5)
    assert cli("predict", "mine/model.pt", "new.csv", "--out", "p.csv").code == 0
    again = cli("predict", "mine/model.pt", "new.csv", "--out", "p.csv")
    assert again.code == 2
    assert "--force" in again.err
    assert cli("predict", "mine/model.pt", "new.csv", "--out", "p.csv", "--force").code == 0


def test_csv_regression_from_file_to_prediction(cli: Cli, tmp_path: Path) -> None:
    lines = ["size,colour,price"] + [f"{i},{'red' if i % 3 else 'blue'},{2 * i + (i % 3 == 0)}" for i in range(60)]
    Path("houses.csv").write_text("\n".join(lines) + "\n")
    Path("houses.yaml").write_text(
        "data: {type: csv, path: houses.csv, target: price}\n"
        "model: {type: mlp, hidden: [16]}\n"
        "training: {epochs: 60, batch_size: 16, optimizer: {type: adam, lr: 0.02}}\n"
    )
    result = cli("train", "houses.yaml", "--json")
    assert result.code == 0, result.err
    metrics = json.loads(result.out)["metrics"]
    assert metrics["test.r2"] > 0.9
    Path("new.csv").write_text("colour,size\nred,10\nblue,20\n")
    rows = list(csv.DictReader(io.StringIO(cli("predict", "runs/houses/1/model.pt", "new.csv").out)))
    assert len(rows) == 2
    assert float(next(iter(rows[0].values()))) == pytest.approx(20, abs=12)
    labelled = cli("evaluate", "runs/houses/1/model.pt", "--data", "houses.csv", "--json")
    assert json.loads(labelled.out)["metrics"]["data.r2"] > 0.9


@pytest.mark.slow
def test_sklearn_with_cross_validation(cli: Cli) -> None:
    Path("logistic.yaml").write_text(
        "data: {type: wine}\n"
        "model:\n  type: sklearn\n  steps:\n    - {estimator: sklearn.preprocessing.StandardScaler}\n"
        "    - {estimator: sklearn.linear_model.LogisticRegression, C: 0.5, max_iter: 500}\n"
        "evaluation: {cv: 4}\n"
    )
    result = cli("train", "logistic.yaml", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    inputs, targets = load_wine(return_X_y=True)
    expected = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=500)), inputs, targets, cv=4
    )
    folds = report["tables"]["folds"]
    column = folds["columns"].index("validation.accuracy")
    assert [row[column] for row in folds["rows"]] == pytest.approx(list(expected), abs=0)
    assert report["metrics"]["validation.accuracy"] == pytest.approx(expected.mean(), abs=1e-15)
    assert report["metrics"]["validation.accuracy_std"] == pytest.approx(expected.std(), abs=1e-15)
    assert cli("evaluate", "runs/logistic/1/model.pt", "--split", "train").code == 0


@pytest.mark.slow
def test_resume_runs_only_what_is_left(cli: Cli, quick: Path) -> None:
    assert cli("tune", quick, "--trials", 2).code == 0
    first = json.loads(Path("runs/quick/1/trials.json").read_text())
    grown = cli("tune", quick, "--resume", "--set", "tuning.trials=4")
    assert grown.code == 0, grown.err
    trials = json.loads(Path("runs/quick/1/trials.json").read_text())
    assert len(trials) == 4
    assert trials[:2] == first
    assert not Path("runs/quick/2").exists()
    changed = cli("tune", quick, "--resume", "--set", "training.epochs=2")
    assert changed.code == 2
    assert "training.epochs: 3 -> 2" in changed.err
    assert cli("tune", quick, "--resume", "--trials", 3).code == 2


def test_out_is_never_overwritten(cli: Cli, quick: Path) -> None:
    assert cli("train", quick, "--out", "mine").code == 0
    before = Path("mine/report.json").read_bytes()
    again = cli("train", quick, "--out", "mine")
    assert again.code == 2
    assert "never overwritten" in again.err
    assert Path("mine/report.json").read_bytes() == before


def test_dry_run_writes_nothing(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--dry-run", "--json")
    assert result.code == 0, result.err
    plan = json.loads(result.out)["plan"]
    assert plan["trials"] == 4
    assert plan["parameters"] == 2
    assert plan["estimated_seconds"] > 0
    assert not Path("runs").exists()
    assert cli("train", quick, "--dry-run").code == 0


@pytest.mark.slow
def test_runs_show_and_clean(cli: Cli, quick: Path) -> None:
    assert "no runs" in cli("runs").out
    assert cli("tune", quick).code == 0
    assert cli("train", quick).code == 0
    listed = json.loads(cli("runs", "--json").out)
    assert [(run["name"], run["number"], run["status"]) for run in listed] == [
        ("quick", 1, "completed"),
        ("quick", 2, "completed"),
    ]
    assert "quick/1" in cli("runs").out
    assert json.loads(cli("show", "quick/1", "--json").out)["workflow"] == "tune"
    assert cli("show", "quick").code == 0
    missing = cli("show", "quikc")
    assert missing.code == 2
    assert "quick" in missing.err
    assert "removed 1 run," in cli("clean", "--keep", 1, "--yes").out
    assert not Path("runs/quick/1").exists()
    assert Path("runs/quick/2").exists()


def test_show_reads_an_unfinished_search(cli: Cli, quick: Path) -> None:
    assert cli("tune", quick).code == 0
    Path("runs/quick/1/report.json").unlink()
    shown = cli("show", "quick", "--json")
    assert shown.code == 0, shown.err
    assert len(json.loads(shown.out)["tables"]["trials"]["rows"]) == 4
    assert json.loads(cli("runs", "--json").out)[0]["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(templates()))
def test_init_prints_the_template_exactly(cli: Cli, name: str) -> None:
    assert cli("init", name).out == (CONFIGS / f"{name}.yaml").read_text()
    assert name in cli("init").out


def test_init_suggests_the_nearest(cli: Cli) -> None:
    result = cli("init", "digit_mlp")
    assert result.code == 2
    assert "Did you mean 'digits_mlp'" in result.err


def test_list_names_every_strategy(cli: Cli) -> None:
    families = json.loads(cli("list", "--json").out)
    assert {"samplers", "stoppers", "executors", "models", "data", "optimizers", "schedules"} <= set(families)
    assert all(strategy["summary"] for members in families.values() for strategy in members.values())
    assert families["optimizers"]["sgd"]["options"]["lr"]["required"] in (True, False)
    assert json.loads(cli("list", "samplers", "--json").out) == {"samplers": families["samplers"]}
    lines = cli("list", "samplers").out.splitlines()
    assert lines[0] == "samplers"
    assert [line.split()[0] for line in lines[1:]] == list(families["samplers"])
    assert "bayesian" in cli("list", "samplers").out
    assert "Did you mean 'samplers'" in cli("list", "sampler").err


def test_schema_is_the_shipped_one(cli: Cli) -> None:
    shipped = json.loads((CONFIGS / "modelopt.schema.json").read_text())
    assert json.loads(cli("schema").out) == shipped, "renew it: modelopt schema > configs/modelopt.schema.json"


def test_validate_reports_every_file(cli: Cli, quick: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("modle: {type: mlp}\n")
    result = cli("validate", quick, "wrong.yaml")
    assert result.code == 2
    assert "quick.yaml: ok" in result.out
    assert "wrong.yaml:1:1" in result.err
    assert "'model'" in result.err


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("modelopt ")


def test_refit_trains_on_train_and_validation(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--set", "tuning.refit=train+validation", "--json")
    assert result.code == 0, result.err
    assert "test.accuracy" in json.loads(result.out)["metrics"]
    assert yaml.safe_load(Path("runs/quick/1/best.yaml").read_text())["model"]["type"] == "mlp"
    assert cli("evaluate", "runs/quick/1/model.pt").code == 0


def test_initial_settings_follow_the_file(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--set", "tuning.initial=[{training.optimizer.lr: 0.05}]")
    assert result.code == 0, result.err
    trials = json.loads(Path("runs/quick/1/trials.json").read_text())
    assert [trial["origin"] for trial in trials] == ["file", "initial", "sampler", "sampler"]
    assert trials[1]["training.optimizer.lr"] == 0.05


@pytest.mark.slow
def test_a_script_as_objective(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import argparse, json\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--lr', type=float)\n"
        "lr = parser.parse_args().lr\n"
        "for step in range(1, 4):\n"
        "    print(json.dumps({'step': step, 'loss': (lr - 0.1) ** 2 + 1 / step}))\n"
    )
    (tmp_path / "script.yaml").write_text(
        "command: {argv: [python, train.py, '--lr', '{lr}'], parameters: {lr: 0.5}}\n"
        "tuning:\n  workflow: command\n  objective: minimize loss\n  sampler: random\n  trials: 3\n"
        "  stopper: {type: median, startup_trials: 2}\n"
        "  space: {command.parameters.lr: {float: [0.01, 1.0], log: true}}\n"
    )
    result = cli("tune", "script.yaml", "--json", "--jobs", 2)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    rows = [
        dict(zip(report["tables"]["trials"]["columns"], row, strict=True)) for row in report["tables"]["trials"]["rows"]
    ]
    assert rows[0]["command.parameters.lr"] == 0.5
    assert rows[0]["loss"] == pytest.approx(0.16 + 1 / 3)
    assert len(rows) == 3
    single = cli("train", "script.yaml", "--json")
    assert json.loads(single.out)["metrics"]["loss"] == pytest.approx(0.16 + 1 / 3)
    assert cli("train", "runs/script/1/best.yaml", "--json").code == 0


@pytest.mark.slow
def test_a_search_that_has_seen_enough_says_by_what(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--set", "tuning.trials=50", "--set", "tuning.stop_when.no_improvement=3")
    assert result.code == 0, result.err
    assert "ended by stop_when.no_improvement: 3 trials without a better best trial since trial" in result.out
    report = json.loads(Path("runs/quick/1/report.json").read_text())
    assert report["details"]["ended"] == "converged"
    rows = report["tables"]["trials"]["rows"]
    assert 4 <= len(rows) < 50
    again = cli("tune", quick, "--set", "tuning.trials=50", "--set", "tuning.stop_when.no_improvement=3", "--resume")
    assert again.code == 0, again.err
    assert json.loads(Path("runs/quick/1/report.json").read_text())["tables"]["trials"]["rows"] == rows
    assert "ended by stop_when" in cli("show", "quick").out
    wrong = cli("tune", quick, "--set", "tuning.stop_when={target: accuracy}")
    assert wrong.code == 2
    assert "is no condition" in wrong.err


def test_a_target_on_a_metric_that_nothing_else_asks_for(cli: Cli, quick: Path) -> None:
    options = ("--set", "tuning.trials=9", "--set", 'tuning.stop_when={target: "validation.f1 >= 0.0"}')
    assert cli("tune", quick, *options).code == 0
    details = json.loads(Path("runs/quick/1/report.json").read_text())["details"]
    assert details["ended"] == "converged"
    assert details["why"].startswith("stop_when.target: validation.f1 is ")
