"""`tuning.rules` from the command line: refused with a line where they make no sense, else kept by every trial."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Cli

FILE = """\
version: 1
name: rules
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [8, 16]}
training: {epochs: 1, optimizer: {type: adam, lr: 0.01}}
tuning:
  objective: maximize validation.accuracy
  sampler: random
  trials: 6
  executor: serial
  rules: ["model.hidden.0 >= model.hidden.1"]
  space:
    model.hidden.0: {int: [4, 16]}
    model.hidden.1: {int: [4, 16]}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(FILE)
    return path


@pytest.mark.slow
def test_every_trial_keeps_them_also_when_resumed_and_replayed(cli: Cli, rules: Path) -> None:
    assert "91 settings" in cli("validate", rules).out
    ran = cli("tune", rules, "--set", "tuning.trials=3")
    assert ran.code == 0, ran.err
    problem = "the file's own values break the rule 'model.hidden.0 >= model.hidden.1', so they are not trial 0"
    assert problem in (ran.out + ran.err).replace("\n", " ")
    saved = Path("runs/rules/1/experiment.yaml")
    assert "model.hidden.0 >= model.hidden.1" in saved.read_text()
    assert cli("tune", rules, "--resume").code == 0
    trials = json.loads(Path("runs/rules/1/trials.json").read_text())
    assert len(trials) == 6
    assert all(trial["model.hidden.0"] >= trial["model.hidden.1"] for trial in trials)
    assert cli("replay", "rules").code == 0
    changed = cli("tune", rules, "--resume", "--set", "tuning.rules=[]")
    assert changed.code == 2
    assert "tuning.rules" in changed.err


@pytest.mark.slow
def test_a_run_of_a_version_without_rules_is_resumed(cli: Cli, rules: Path) -> None:
    without = FILE.replace('  rules: ["model.hidden.0 >= model.hidden.1"]\n', "")
    rules.write_text(without)
    assert cli("tune", rules, "--set", "tuning.trials=2").code == 0
    saved = Path("runs/rules/1/experiment.yaml")
    lines = [line for line in saved.read_text().splitlines() if line.strip() != "rules: []"]
    assert len(lines) < len(saved.read_text().splitlines())
    saved.write_text("\n".join(lines) + "\n")
    again = cli("tune", rules, "--resume", "--set", "tuning.trials=3")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('model.hidden.1"]', 'model.hiden.1"]', ("rules.yaml:11:11: ", "Did you mean 'model.hidden.1'?")),
        ('model.hidden.1"]', 'training.epoch"]', ("rules.yaml:11:11: ", "did you mean 'training.epochs'?")),
        ('model.hidden.1"]', 'model.type"]', ("rules.yaml:11:11: ", "which is 'mlp' in this file, and no number")),
        ('model.hidden.1"]', '17"]', ("rules.yaml:11:11: ", "no setting of the space keeps 'model.hidden.0 >= 17'")),
        ('model.hidden.1"]', 'model.hidden.1 / 2"]', ("rules.yaml:11:", "'/ 2' has no meaning in it")),
        (
            "  space:",
            "  initial: [{model.hidden.0: 4, model.hidden.1: 5}]\n  space:",
            ("rules.yaml:12:13: ", "this setting breaks the rule 'model.hidden.0 >= model.hidden.1'"),
        ),
        ("  rules:", "  constraints:", ("rules.yaml:11:", "write it to tuning.rules")),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(
    cli: Cli, rules: Path, old: str, new: str, message: tuple[str, str]
) -> None:
    rules.write_text(FILE.replace(old, new))
    result = cli("validate", rules)
    assert result.code == 2
    for text in message:
        assert text in result.err


def test_what_is_not_searched_is_as_the_file_has_it(cli: Cli, rules: Path) -> None:
    text = FILE.replace("epochs: 1", "epochs: 3").replace('model.hidden.1"]', '5 * training.epochs"]')
    rules.write_text(text)
    assert "26 settings" in cli("validate", rules).out, "15 and 16, each with all 13 of the other"
