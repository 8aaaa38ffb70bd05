"""`modelopt replay`: exit 0 when the log comes out again, 1 with the place where it does not."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cli import Cli


def test_a_run_is_replayed(cli: Cli, quick: Path) -> None:
    assert cli("tune", quick, "--set", "tuning.stopper=median").code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("runs/quick/1").iterdir()}
    result = cli("replay", "quick")
    assert result.code == 0, result.err
    assert "3 of 3 suggestions of the sampler agree" in result.out
    assert "decisions of the scheduler agree" in result.out
    assert "every answer comes out" in result.out
    assert {path: path.stat().st_mtime_ns for path in before} == before, "it only reads"
    report = json.loads(cli("replay", "runs/quick/1", "--json").out)
    assert report["details"]["agrees"] is True
    assert report["details"]["suggestions"] == {"asked": 3, "agreed": 3}


def test_a_difference_is_told_with_its_place_and_what_changed(cli: Cli, quick: Path) -> None:
    assert cli("tune", quick).code == 0
    with closing(sqlite3.connect("runs/quick/1/study.sqlite")) as connection, connection:
        query = "SELECT sequence, payload FROM events WHERE kind = 'queued' AND trial = 2"
        sequence, payload = connection.execute(query).fetchone()
        content = json.loads(payload)
        content["params"]["model.hidden.0"] = 8 if content["params"]["model.hidden.0"] != 8 else 4
        connection.execute("UPDATE events SET payload = ? WHERE sequence = ?", [json.dumps(content), sequence])
    result = cli("replay", "quick")
    assert result.code == 1
    assert "2 of 3 suggestions" in result.out
    assert f"first difference: event {sequence}, the suggestion of trial 2" in result.out
    assert "the same versions and machine" in result.out
    assert f"event {sequence} of runs/quick/1/study.sqlite differs" in result.err
    environment = Path("runs/quick/1/environment.json")
    old = json.loads(environment.read_text())
    old["packages"]["numpy"] = "1.0"
    environment.write_text(json.dumps(old))
    result = cli("replay", "quick", "--json")
    assert result.code == 1
    report = json.loads(result.out)
    assert report["details"]["first"]["event"] == sequence
    assert "numpy was 1.0, is" in report["warnings"][0]


def test_what_is_no_search(cli: Cli, quick: Path) -> None:
    assert cli("train", quick).code == 0
    result = cli("replay", "quick")
    assert result.code == 2
    assert "holds no study.sqlite" in result.err
    assert cli("replay", "nowhere").code == 2


@pytest.mark.slow
def test_a_file_whose_keys_were_sorted_anew_is_resumed_and_replayed(cli: Cli, quick: Path) -> None:
    text = quick.read_text()
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    (lr, hidden) = lines
    swapped = text.replace(f"{lr}\n{hidden}", f"{hidden}\n{lr}")
    assert swapped != text
    assert cli("tune", quick, "--set", "tuning.trials=6").code == 0
    whole = json.loads(Path("runs/quick/1/trials.json").read_text())
    assert cli("tune", quick, "--set", "tuning.trials=3").code == 0
    quick.write_text(swapped)
    result = cli("tune", quick, "--resume", "--set", "tuning.trials=6")
    assert result.code == 0, result.err
    resumed = json.loads(Path("runs/quick/2/trials.json").read_text())
    paths = ("training.optimizer.lr", "model.hidden.0")
    assert [[row[path] for path in paths] for row in resumed] == [[row[path] for path in paths] for row in whole]
    assert list(resumed[0]) == list(whole[0])
    assert cli("replay", "runs/quick/2").code == 0
    quick.write_text(swapped.replace("[4, 8, 16]", "[8, 4, 16]"))
    result = cli("tune", quick, "--resume", "--set", "tuning.trials=8")
    assert result.code == 2
    assert "was started with another experiment" in result.err
