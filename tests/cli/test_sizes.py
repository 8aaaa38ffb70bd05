"""`modelopt tune` over sizes of the train split: what the plan, the progress and the report say; going on; errors."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.cli import Cli

SIZED = """\
name: sized
data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: sklearn, estimator: sklearn.svm.SVC}
tuning:
  objective: maximize validation.accuracy
  sampler: random
  stopper: asha
  fidelity: {least: 0.1}
  trials: 6
  executor: serial
  space: {model.C: {float: [0.01, 100.0], log: true}}
"""


@pytest.fixture
def sized(cli: Cli) -> Path:
    path = Path("sized.yaml")
    path.write_text(SIZED)
    return path


def trials(number: int) -> list[dict[str, str]]:
    with Path(f"runs/sized/{number}/trials.csv").open() as file:
        return [{key: row[key] for key in row if "seconds" not in key} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_sizes_are_told_in_samples(cli: Cli, sized: Path) -> None:
    plan = cli("tune", sized, "--dry-run").out
    assert "trained on 10 samples (1/9), 30 samples (1/3) and, the best of them, on all 90; a step is 1/9" in plan
    result = cli("tune", sized)
    assert result.code == 0, result.err
    rows = trials(1)
    stopped = next(row for row in rows if row["state"] == "stopped")
    stopped_line = next(line for line in result.err.splitlines() if line.startswith(f"trial {stopped['trial']} "))
    assert f"stopped at {float(stopped['train.samples']):.0f} samples" in stopped_line
    for out in (result.out, cli("show", "sized").out):
        table = out[: out.index("best setting")]
        header = next(line for line in table.splitlines() if "validation.accuracy" in line)
        assert header.split()[:4] == ["trial", "state", "samples", "validation.accuracy"]
        shown = [line.split() for line in table.splitlines() if " done " in line or " stopped " in line]
        assert [row[2] for row in shown] == sorted((row[2] for row in shown), key=int, reverse=True), "whole ones first"
    assert cli("replay", "sized").code == 0


@pytest.mark.slow
def test_more_trials_go_on_and_end_as_if_never_cut(cli: Cli, sized: Path) -> None:
    assert cli("tune", sized, "--set", "tuning.trials=3").code == 0
    assert cli("tune", sized, "--resume").code == 0
    assert cli("tune", sized).code == 0
    assert trials(1) == trials(2)


def test_no_complete_trial_is_told(cli: Cli, sized: Path) -> None:
    change = ("tuning.stopper=null", "tuning.scheduler=successive_halving", "tuning.trials=1")
    result = cli("tune", sized, *(word for each in change for word in ("--set", each)))
    assert result.code == 0
    assert "no trial came to its end, so none is best; --resume with more" in result.out + result.err


@pytest.mark.parametrize(
    ("change", "where", "remedy"),
    [
        ("tuning.stopper=null", "sized.yaml:5:3", "write stopper: asha, or scheduler: bohb, or leave it out"),
        ("tuning.fidelity.least=0.5", "sized.yaml:8:13", "set least to at most 0.333"),
        ("tuning.fidelity.factor=1", "tuning.fidelity.factor", "at least 2"),
        ("tuning.fidelity.take=first", "tuning.fidelity.take", "latest"),
        ("tuning.stopper=wilcoxon", "sized.yaml:5:3", "write stopper: asha, or leave out fidelity"),
        ("tuning.workflow=distill", "sized.yaml:5:3", "leave it out"),
        ("tuning.fidelity.least=0.001", "1 of its 90 samples", "set tuning.fidelity.least to 0.034 or more"),
    ],
)
def test_errors_give_the_place_and_the_remedy(cli: Cli, sized: Path, change: str, where: str, remedy: str) -> None:
    result = cli("tune", sized, "--set", change)
    assert result.code == 2
    assert where in result.err
    assert remedy in result.err
