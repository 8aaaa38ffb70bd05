"""A search that knows an earlier run, from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modelopt_cli.tuning.study.study import Study
from tests.support.cli import QUICK, Cli


@pytest.fixture
def earlier(cli: Cli, tmp_path: Path) -> Path:
    """A run that searched another width as well, and had another number of epochs in its file."""
    (tmp_path / "first.yaml").write_text(QUICK)
    assert cli("tune", "first.yaml", "--out", "old").code == 0
    return tmp_path / "old"


SECOND = QUICK.replace("sampler: random\n  trials: 4", "sampler: tpe\n  trials: 2\n  warm_start: [../old]")


@pytest.mark.slow
def test_a_search_knows_an_earlier_run_and_resumes_without_it(cli: Cli, earlier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "second.yaml").write_text(SECOND)
    ran = cli("tune", "files/second.yaml", "--out", "new")
    assert ran.code == 0, ran.err
    assert "4 trials of earlier runs are known to the sampler" in ran.out + ran.err
    with Study.open(tmp_path / "new" / "study.sqlite") as study:
        assert len(study.warm_start.trials) == 4
        assert [trial.number for trial in study.trials] == [0, 1]
    shutil.rmtree(earlier)
    again = cli("tune", "files/second.yaml", "--out", "new", "--resume", "--set", "tuning.trials=3")
    assert again.code == 0, again.err
    trials, _ = Study.read(tmp_path / "new" / "study.sqlite")
    assert len(trials) == 3


@pytest.mark.slow
def test_what_the_earlier_file_had_counts_for_what_it_did_not_search(cli: Cli, earlier: Path, tmp_path: Path) -> None:
    more = SECOND.replace("../old", "old") + "    training.batch_size: [16, 32, 64]\n"
    (tmp_path / "more.yaml").write_text(more.replace("batch_size: 32,", "batch_size: 64,"))
    assert cli("tune", "more.yaml", "--out", "new").code == 0
    with Study.open(tmp_path / "new" / "study.sqlite") as study:
        assert [trial.params["training.batch_size"] for trial in study.warm_start.trials] == [32] * 4
    fewer = SECOND.replace("../old", "old").replace("    model.hidden.0: [4, 8, 16]\n", "")
    (tmp_path / "fewer.yaml").write_text(fewer)
    ran = cli("tune", "fewer.yaml", "--out", "newer")
    assert ran.code == 0
    with Study.open(tmp_path / "newer" / "study.sqlite") as study:
        trials, _ = Study.read(earlier / "study.sqlite")
        same = [trial for trial in trials if trial.params["model.hidden.0"] == 8]
        assert len(study.warm_start.trials) == len(same)
        assert study.warm_start.left_out.get("no setting of this space", 0) == 4 - len(same)


@pytest.mark.parametrize("dry", [True, False])
def test_a_run_that_is_not_there_is_refused_before_anything_runs(cli: Cli, tmp_path: Path, dry: bool) -> None:
    (tmp_path / "second.yaml").write_text(SECOND)
    ran = cli("tune", "second.yaml", "--out", "new", *(["--dry-run"] if dry else []))
    assert ran.code == 2
    assert "does not exist; name a run directory" in ran.err
    assert not (tmp_path / "new").exists()


SVC = """\
name: svc
data: {type: wine, splits: {validation: 0.25, test: 0.2, seed: 0}}
model:
  type: sklearn
  steps: [{estimator: sklearn.preprocessing.StandardScaler}, {estimator: sklearn.svm.SVC}]
tuning:
  objective: maximize validation.accuracy
  sampler: random
  trials: 3
  executor: serial
  start_from_file: false
  space:
    model.steps.1.C: {float: [0.01, 100.0], log: true}
"""


@pytest.mark.slow
def test_an_argument_that_nobody_named_is_as_the_estimator_has_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "svc.yaml").write_text(SVC)
    assert cli("tune", "svc.yaml", "--out", "old").code == 0
    wider = SVC.replace("trials: 3", "trials: 1\n  warm_start: [old]") + (
        "    model.steps.1.shrinking: [true, false]\n    model.steps.0.with_mean: [true, false]\n"
    )
    (tmp_path / "wider.yaml").write_text(wider)
    ran = cli("tune", "wider.yaml", "--out", "new")
    assert ran.code == 0, ran.err
    assert "3 trials of earlier runs are known to the sampler" in ran.out + ran.err
    with Study.open(tmp_path / "new" / "study.sqlite") as study:
        assert [trial.params["model.steps.1.shrinking"] for trial in study.warm_start.trials] == [True] * 3
    (tmp_path / "seeded.yaml").write_text(wider + "    model.steps.1.random_state: [1, 2]\n")
    ran = cli("tune", "seeded.yaml", "--out", "newer")
    assert ran.code == 0, ran.err
    remark = "3 left out: no setting of this space: nothing says what model.steps.1.random_state was"
    assert remark in (ran.out + ran.err).replace("\n", " ")
