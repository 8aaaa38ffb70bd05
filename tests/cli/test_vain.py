"""What tune would refuse, validate refuses; what was named in vain is told."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.support.cli import Cli

SCRIPT = """\
import json, sys
print(json.dumps({"loss": float(sys.argv[1]) ** 2, "size": 1.0}))
"""
FILE = """\
name: vain
command: {argv: [python, p.py, "{x}"], parameters: {x: 0.5}}
tuning:
  workflow: command
  objective: minimize loss
  sampler: random
  executor: serial
  trials: 2
  space: {command.parameters.x: {float: [0, 1]}}
"""


def write(text: str) -> str:
    Path("p.py").write_text(SCRIPT)
    Path("it.yaml").write_text(text)
    return "it.yaml"


needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs optuna")


@pytest.mark.parametrize(
    ("given", "line", "message"),
    [
        pytest.param("  sampler: {type: optuna, options: {nosuch: 1}}", 6, "no option 'nosuch'", marks=needs_optuna),
        pytest.param(
            "  sampler: {type: optuna, sampler: BruteForceSampler}", 6, "cannot search this space", marks=needs_optuna
        ),
        ("  sampler: random\n  trial_memory: 1GB", 8, "needs worker processes"),
    ],
)
def test_validate_refuses_what_tune_would(cli: Cli, given: str, line: int, message: str) -> None:
    write(FILE.replace("  sampler: random", given))
    for command in (["validate"], ["tune"], ["tune", "--dry-run"]):
        result = cli(command[0], "it.yaml", *command[1:])
        assert result.code == 2, result.out
        assert message in result.err
        assert f"it.yaml:{line}:" in result.err, result.err
    assert not Path("runs/vain/1/study.sqlite").exists()


@needs_optuna
def test_validate_accepts_a_sampler_that_can(cli: Cli) -> None:
    write(FILE.replace("sampler: random", "sampler: {type: optuna, options: {n_startup_trials: 3}}"))
    assert cli("validate", "it.yaml").code == 0


def test_a_pruning_needs_a_trained_model(cli: Cli) -> None:
    text = (
        "name: it\ndata: {type: iris}\nmodel: {type: mlp}\npruning: {amount: 0.5}\ntuning:\n  workflow: prune\n"
        "  objective: maximize validation.accuracy\n  space: {pruning.amount: [0.1, 0.5]}\n"
    )
    refused = cli("validate", write(text))
    assert refused.code == 2
    assert "needs a training section" in refused.err
    assert cli("validate", write(text.replace("amount: 0.5}", "amount: 0.5, start: initial}"))).code == 0


def test_parameters_that_no_placeholder_uses(cli: Cli) -> None:
    write(FILE)
    misspelt = cli("validate", "it.yaml", "--set", "command.parameters.xx=3")
    assert misspelt.code == 2
    assert "Did you mean 'x'?" in misspelt.err
    searched = cli("validate", write(FILE.replace("{command.parameters.x:", "{command.parameters.y:")))
    assert searched.code == 2
    assert "it.yaml:9:" in searched.err
    none = cli("tune", write(FILE.replace(', "{x}"', ', "1"')), "--json")  # a script that takes nothing
    assert none.code == 0, none.err
    assert any("no placeholder" in warning for warning in json.loads(none.out)["warnings"])


def test_what_was_named_in_vain_is_told(cli: Cli) -> None:
    text = FILE + "  stop_when: {target: sise <= 0.3}\n  constraints: [lost <= 3]\n"
    text += "  initial: [{command.parameters.x: 0.1}, {command.parameters.x: 0.2}, {command.parameters.x: 0.3}]\n"
    result = cli("tune", write(text), "--json", "--gate", "losss <= 9")
    assert result.code == 3
    assert "Did you mean 'loss'?" in result.err
    warnings = json.loads(result.out)["warnings"]
    assert any("'sise', so stop_when.target could never hold; did you mean 'size'?" in text for text in warnings), (
        warnings
    )
    assert any("'lost', so none can meet" in text for text in warnings), warnings
    assert any("2 settings of tuning.initial found no place" in text for text in warnings), warnings
    fine = cli("tune", write(FILE + "  stop_when: {target: size >= 3}\n"), "--json")
    assert json.loads(fine.out)["warnings"] == []


def test_the_first_report_is_told_at_once(cli: Cli) -> None:
    result = cli("tune", write(FILE.replace("minimize loss", "minimize lost")))
    assert result.code == 4
    assert "trial 0 reports loss, size, but not 'lost', which the search looks at; did you mean 'loss'?" in result.err
    assert "Did you mean 'loss'?" in result.err.partition("every trial failed")[2]
