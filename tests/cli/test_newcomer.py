"""What a newcomer's terminal shows, and what a newcomer does wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from modelopt_cli.cli.render import search
from modelopt_cli.cli.render.progress import describe
from modelopt_cli.results.report import Report, Table
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.cli import Cli

SETTINGS = {
    "training.optimizer.lr": 0.0184372,
    "training.batch_size": 128,
    "model.hidden.0": 64,
    "model.dropout": 0.18971,
    "training.optimizer": '{"type": "adamw"}',
    "training.optimizer.momentum": None,
    "training.optimizer.weight_decay": 0.0769161,
}


def shown(width: int, *states: str) -> list[str]:
    rows = [[number, state, 0.9778, *SETTINGS.values(), 1.2345] for number, state in enumerate(states)]
    report = Report(
        kind="search",
        workflow="tune",
        name="digits-mlp",
        best={"number": 0, "params": SETTINGS},
        details={"objective": ["maximize validation.accuracy"]},
        tables={
            "trials": Table(
                columns=["trial", "state", "validation.accuracy", *SETTINGS, "seconds"],
                rows=rows,
            )
        },
    )
    console = Console(file=io.StringIO(), width=width, highlight=False)
    search.render(console, report, quiet=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().split("best setting")[0].splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_trials_table_has_one_line_a_trial(width: int) -> None:
    lines = shown(width, "completed", "completed")
    trials = [line for line in lines if "0.9778" in line]
    assert [line.split()[0] for line in trials] == ["0", "1"]
    assert max(len(line) for line in lines if not line.startswith("(")) <= width
    assert not any("state" in line for line in lines), "all are completed: no word on it"


def test_wide_table_has_every_setting_and_a_narrow_one_counts_what_it_leaves_out() -> None:
    wide, narrow = shown(200, "completed"), shown(50, "completed")
    header = next(line for line in wide if line.split()[:1] == ["trial"]).split()
    expected = "trial validation.accuracy lr batch_size hidden.0 dropout optimizer weight_decay seconds"
    assert " ".join(header) == expected, "momentum has no value in any row"
    assert "more settings not shown here" in narrow[-1]
    assert "not shown" not in wide[-1]


def test_states_are_shown_where_they_differ() -> None:
    text = "\n".join(shown(200, "completed", "failed"))
    assert "done" in text
    assert "failed" in text


def test_progress_names_places_in_lists() -> None:
    trial = Trial(number=0, params={"model.hidden.0": 64, "lr": 0.1}, seed=0, state=State.RUNNING)
    assert "hidden.0=64  lr=0.1" in describe(trial, ())


@pytest.mark.parametrize("command", ["tune", "train"])
def test_a_model_too_large_for_memory_is_told_so(cli: Cli, quick: Path, command: str) -> None:
    result = cli(command, quick, "--quiet", "--set", "model.hidden=[100000000000000]", "--set", "tuning.space={}")
    assert "internal error" not in result.err
    assert result.code in (1, 2, 4), result


def test_a_folder_is_no_model(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.pt").touch()
    result = cli("evaluate", "run")
    assert result.code == 2
    assert "run is a folder; name the model in it: run/model.pt" in result.err


def test_a_quiet_dry_run_still_gives_its_plan(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--dry-run", "--quiet")
    assert result.code == 0
    assert "time: about" in result.out


@pytest.mark.slow
def test_constraints_that_no_trial_meets_are_told(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--json", "--set", 'tuning.constraints=["model.parameters <= 1"]')
    assert result.code == 0
    assert any("no trial meets the constraints" in warning for warning in json.loads(result.out)["warnings"])
    free = cli("tune", quick, "--json", "--set", 'tuning.constraints=["model.parameters <= 1_000_000"]')
    assert not any("constraints" in warning for warning in json.loads(free.out)["warnings"])


def test_a_missed_gate_leaves_one_json_document(cli: Cli, quick: Path) -> None:
    result = cli("tune", quick, "--json", "--gate", "validation.accuracy >= 2")
    assert result.code == 3
    assert json.loads(result.out)["gates"][0]["met"] is False
    assert "gate not met" in result.err
