"""`auto` as a user meets it: the plan says what was taken and why, the run keeps to it, and conflicts are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cli import Cli

NETWORK = """\
name: net
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8]}
training: {epochs: 9, batch_size: 8}
tuning:
  objective: maximize validation.accuracy
  sampler: tpe
  stopper: auto
  trials: 6
  executor: serial
  space: {training.optimizer.lr: {float: [0.001, 1.0], log: true}}
"""
SCRIPT = """\
name: talks
command:
  argv: [python, talks.py, "{x}"]
  parameters: {x: 0.5}
tuning:
  workflow: command
  objective: minimize loss
  sampler: random
  stopper: auto
  trials: 5
  space: {command.parameters.x: {float: [0.0, 1.0]}}
"""
TALKS = """\
import json, sys
for step in range(1, 7):
    print(json.dumps({"step": step, "loss": float(sys.argv[1]) + 1 / step}), flush=True)
"""


@pytest.fixture
def network(cli: Cli) -> Path:
    path = Path("net.yaml")
    path.write_text(NETWORK)
    return path


def settings(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path(folder, "experiment.yaml").read_text())["tuning"]
    return content


def plan(cli: Cli, *words: object) -> dict[str, Any]:
    done = cli("tune", *words, "--dry-run", "--json")
    assert done.code == 0, done.err
    content: dict[str, Any] = json.loads(done.out)["plan"]
    return content


def changes(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


def test_the_plan_says_what_was_taken_and_why(cli: Cli, network: Path) -> None:
    text = cli("tune", network, "--dry-run").out
    assert "stopper asha, one after another" in text
    assert "stopper: asha, by auto: trials report 9 epochs, and at epochs 1 and 3 the best third goes on" in text
    made = plan(cli, network)
    assert made["auto"]["stopper"]["value"] == {"type": "asha", "min_steps": 1, "factor": 3}
    assert (made["stopper"], "executor" in made["auto"], "advice" in made) == ("asha", False, False)


@pytest.mark.parametrize(
    ("overrides", "stopper", "scheduler"),
    [
        (["training.epochs=2"], None, None),
        (["tuning.sampler=random"], "hyperband", None),
        (["evaluation.cv=5", "training.epochs=1"], "wilcoxon", None),
        (["evaluation.cv=3", "training.epochs=1"], None, None),
        (["tuning.fidelity={}"], "asha", None),
        (["tuning.fidelity={}", "tuning.stopper=null", "tuning.scheduler=auto"], None, "successive_halving"),
        (["tuning.scheduler=auto", "tuning.trials=50"], "asha", None),
        (["tuning.scheduler=auto", "tuning.trials=20", "training.epochs=2"], None, None),
        (
            ["model={type: sklearn, estimator: sklearn.svm.SVC}", "training=null", "tuning.space={model.C: [1, 2]}"],
            None,
            None,
        ),
        (["tuning.objective=[maximize validation.accuracy, minimize model.parameters]"], "asha", None),
        (["tuning.objective=minimize train.seconds"], None, None),
    ],
)
def test_what_is_taken_follows_the_file(
    cli: Cli, network: Path, overrides: list[str], stopper: str | None, scheduler: str | None
) -> None:
    made = plan(cli, network, *changes(*overrides))
    assert (made["stopper"], made["scheduler"]) == (stopper, scheduler), made["auto"]


def test_a_scheduler_is_taken_for_several_objectives_and_for_few_trials(cli: Cli, network: Path) -> None:
    both = changes("tuning.scheduler=auto", "tuning.trials=20")
    taken = plan(cli, network, *both)
    assert taken["scheduler"] in ("bohb", "freeze_thaw"), "by how long an epoch takes here"
    assert taken["stopper"] is None
    assert taken["auto"]["stopper"]["reason"] == "the scheduler decides which trials end"


@pytest.mark.slow
def test_the_run_names_what_was_taken_and_goes_on_with_it(cli: Cli, network: Path) -> None:
    done = cli("tune", network)
    assert done.code == 0, done.err
    assert "stopper: asha, by auto: trials report 9 epochs" in done.err
    assert settings("runs/net/1")["stopper"] == {"type": "asha", "min_steps": 1, "factor": 3}
    kept = json.loads(Path("runs/net/1/environment.json").read_text())["auto"]["stopper"]
    assert kept["value"]["type"] == "asha"
    report = json.loads(Path("runs/net/1/report.json").read_text())
    assert report["plan"]["auto"]["stopper"] == kept
    assert "Taken by auto" in Path("runs/net/1/report.html").read_text()
    assert cli("replay", "net").code == 0
    more = cli("tune", network, "--resume", "--trials", 8)
    assert more.code == 0, more.err
    assert "asha, by auto: trials report 9 epochs" in more.err
    assert cli("replay", "net").code == 0
    named = cli("tune", network, *changes("tuning.stopper=asha"), "--resume", "--trials", 9)
    assert named.code == 0, "the file may name what was taken"
    assert cli("tune", network, "--resume", "--trials", 10).code == 0, "and leave it open again"
    other = cli("tune", network, *changes("tuning.stopper=median"), "--resume", "--trials", 11)
    assert (other.code, "started with another experiment" in other.err) == (2, True)


@pytest.mark.slow
def test_a_run_goes_on_with_what_it_took_though_the_rules_say_otherwise_now(cli: Cli, network: Path) -> None:
    """As on another machine, or of another version: what was taken then is in environment.json."""
    assert cli("tune", network, *changes("tuning.stopper=median"), "--trials", 3).code == 0
    file = Path("runs/net/1/environment.json")
    content = json.loads(file.read_text())
    median = {"type": "median", "warmup_steps": 1, "startup_trials": 5, "interval": 1}
    refused = cli("tune", network, "--resume")
    assert refused.code == 2, "this run was not left open"
    file.write_text(json.dumps({**content, "auto": {"stopper": {"value": median, "reason": "it was so"}}}))
    done = cli("tune", network, "--resume")
    assert done.code == 0, done.err
    assert "stopper: median, by auto: it was so" in done.err
    assert settings("runs/net/1")["stopper"] == median
    assert json.loads(file.read_text())["auto"]["stopper"] == {"value": median, "reason": "it was so"}


@pytest.mark.slow
def test_none_is_kept_too(cli: Cli, network: Path) -> None:
    short = changes("training.epochs=2")
    assert cli("tune", network, *short, "--trials", 2).code == 0
    assert settings("runs/net/1")["stopper"] is None
    assert cli("tune", network, *short, "--resume", "--trials", 3).code == 0
    assert cli("replay", "net").code == 0


@pytest.mark.slow
def test_auto_gives_what_its_choice_gives_by_name(cli: Cli, network: Path) -> None:
    assert cli("tune", network).code == 0
    assert cli("tune", network, *changes("tuning.stopper=asha")).code == 0
    rows = [[row.split(",")[:4] for row in Path(f"runs/net/{n}/trials.csv").read_text().splitlines()] for n in (1, 2)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["tuning.stopper=asha", "tuning.scheduler=auto"],
            "the stopper asha ends trials already; leave out one of them, or write stopper: auto",
        ),
        (["tuning.scheduler=bohb"], "the scheduler bohb decides itself which trials stop; remove tuning.stopper"),
        (["tuning.stopper=atuo"], "unknown stopper 'atuo'. Did you mean 'auto'?"),
        (["tuning.stopper={type: auto}"], "unknown stopper 'auto'"),
        (["tuning.sampler=auto"], "unknown sampler 'auto'"),
        (["tuning.workflow=prune", "pruning={}", "tuning.fidelity={}"], "fidelity trains on parts of the train split"),
    ],
)
def test_what_makes_no_sense_is_one_error(cli: Cli, network: Path, overrides: list[str], message: str) -> None:
    for command in (["validate", network], ["tune", network]):
        done = cli(*command, *changes(*overrides))
        assert (done.code, message in done.err) == (2, True), done.err
        assert done.err.count("error:") == 1
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_file_that_chose_otherwise_is_told_in_a_line(cli: Cli, network: Path) -> None:
    advice = plan(cli, network, *changes("tuning.stopper=null"))["advice"]
    assert len(advice) == 1
    assert advice[0].startswith("no stopper is set; `stopper: auto` would take asha: trials report 9 epochs")
    assert "advice: no stopper is set" in cli("tune", network, "--dry-run", *changes("tuning.stopper=null")).out
    useless = plan(cli, network, *changes("tuning.stopper=asha", "training.epochs=1"))["advice"]
    assert useless == [
        "the stopper asha gains little here: a trial reports nothing before its end, so there is nothing to end it by"
    ]


def test_a_cluster_named_by_the_environment_is_never_taken(
    cli: Cli, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    made = plan(cli, network, *changes("tuning.executor=auto"))
    assert made["executor"] in ("serial", "processes")
    assert any("RAY_ADDRESS names a Ray cluster" in text for text in made["advice"])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system ties no process to a core")
def test_one_core_is_one_trial_at_a_time(cli: Cli, network: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        made = plan(cli, network, *changes("tuning.executor=auto"), "--trials", 4000)
    finally:
        os.sched_setaffinity(0, before)
    assert (made["executor"], made["workers"]) == ("serial", 1)
    assert made["auto"]["executor"]["reason"] == "1 core allows one trial at a time"


@pytest.mark.slow
def test_a_script_has_a_stopper_that_needs_no_number_of_steps(cli: Cli) -> None:
    Path("talks.yaml").write_text(SCRIPT)
    Path("talks.py").write_text(TALKS)
    done = cli("tune", "talks.yaml")
    assert done.code == 0, done.err
    assert "stopper: median, by auto: the script's steps are not known before it has run" in done.err
    assert "executor: processes, by auto: each script is a process of its own, one at a time" in done.err
    assert plan(cli, "talks.yaml", *changes("command.steps=6"))["stopper"] == "hyperband"
