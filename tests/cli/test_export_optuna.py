"""`modelopt export RUN --format optuna`, and a warm start from Optuna's files, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest

from modelopt_cli.tuning.study.study import Study
from tests.support.cli import QUICK, Cli


@pytest.mark.slow
def test_a_search_goes_to_optuna_and_comes_back(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(QUICK)
    assert cli("tune", "quick.yaml").code == 0
    ran = cli("export", "quick", "--format", "optuna")
    assert ran.code == 0, ran.err
    assert "quick/1: 4 complete" in ran.out
    assert "optuna-dashboard sqlite:///quick-1.db" in ran.out
    study = optuna.load_study(study_name="quick/1", storage="sqlite:///quick-1.db")
    with Study.open(tmp_path / "runs" / "quick" / "1" / "study.sqlite") as own:
        assert own.best is not None
        assert (study.best_trial.number, study.best_value) == (
            own.best.number,
            own.best.metrics["validation.accuracy"],
        )
    before = (tmp_path / "quick-1.db").read_bytes()
    again = cli("export", "quick/1", "--format", "optuna")
    assert (again.code, "quick-1.db exists" in again.err) == (2, True)
    (tmp_path / "files").mkdir()
    warm = QUICK.replace("trials: 4", "trials: 1\n  warm_start: ['optuna:sqlite:///../quick-1.db']")
    (tmp_path / "files" / "warm.yaml").write_text(warm)
    ran = cli("tune", "files/warm.yaml", "--out", "new")
    assert ran.code == 0, ran.err
    assert "4 trials of earlier runs are known to the sampler" in ran.out + ran.err
    assert (tmp_path / "quick-1.db").read_bytes() == before
    (tmp_path / "quick-1.db").unlink()
    ran = cli("tune", "files/warm.yaml", "--out", "new", "--resume", "--set", "tuning.trials=2")
    assert ran.code == 0, ran.err  # what is known is kept with the run


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("optuna:sqlite:///no.db", "no.db does not exist"),
        ("optuna:sqlite:///warm.yaml", "warm.yaml is no SQLite database"),
        ("optuna:postgresql://host/x", "names no file"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_what_cannot_be_read_is_told_with_its_line(
    cli: Cli, tmp_path: Path, address: str, problem: str, dry: bool
) -> None:
    text = QUICK.replace("trials: 4", f"trials: 1\n  warm_start: ['{address}']")
    (tmp_path / "warm.yaml").write_text(text)
    ran = cli("tune", "warm.yaml", "--out", "new", *(["--dry-run"] if dry else []))
    assert ran.code == 2
    assert problem in ran.err.replace("\n", " ")
    line = text.splitlines().index(f"  warm_start: ['{address}']") + 1
    assert f"warm.yaml:{line}:" in ran.err
    assert not (tmp_path / "new").exists()


def test_arguments_that_make_no_sense(cli: Cli, tmp_path: Path) -> None:
    ran = cli("export", "model.pt")
    assert (ran.code, "name one: modelopt export MODEL model.onnx" in ran.err) == (2, True)
    ran = cli("export", "nothing", "--format", "optuna")
    assert (ran.code, "there is no run 'nothing'" in ran.err) == (2, True)
    ran = cli("export", "nothing", "--format", "optuna", "--trust-code")
    assert (ran.code, "leave them out with --format optuna" in ran.err) == (2, True)


def test_the_extra_is_named_where_it_lacks(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Study({"x": [1, 2]}, "random", path=tmp_path / "study.sqlite") as study:
        study.tell(study.ask(), 1.0)
    monkeypatch.setitem(sys.modules, "optuna", None)
    ran = cli("export", ".", "--format", "optuna")
    assert (ran.code, "pip install 'modelopt-cli[optuna]'" in ran.err) == (2, True)
    (tmp_path / "warm.yaml").write_text(QUICK.replace("trials: 4", "trials: 1\n  warm_start: ['optuna:old.db']"))
    ran = cli("tune", "warm.yaml", "--out", "new")
    assert (ran.code, "pip install 'modelopt-cli[optuna]'" in ran.err) == (2, True)
