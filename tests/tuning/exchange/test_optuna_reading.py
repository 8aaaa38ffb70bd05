"""Studies of Optuna's as warm starts: which trials count, as what, and that the file stays as it was."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest

from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.tuning.exchange.optuna_address import OptunaAddress
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State
from modelopt_cli.workflows.export_trials import run as export_trials

SPACE: dict[str, Any] = {
    "training.optimizer.lr": {"float": [1e-3, 1.0], "log": True},
    "model.width": {"int": [8, 64]},
    "model.kind": {"choice": [{"type": "cnn"}, {"type": "mlp"}]},
}


def stored(file: Path, name: str = "old", **options: Any) -> optuna.Study:
    return optuna.create_study(storage=f"sqlite:///{file}", study_name=name, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three completed trials, one of them outside the space, one pruned, one failed, one running."""
    study = stored(tmp_path / "old.db")
    for lr, width, kind in ((0.01, 16, "cnn"), (0.1, 32, "mlp"), (0.1, 999, "mlp"), (0.5, 8, "cnn")):
        trial = study.ask()
        trial.suggest_float("lr", 1e-4, 1.0, log=True)
        trial.suggest_int("width", 1, 1000)
        trial.suggest_categorical("kind", ["cnn", "mlp"])
        trial.storage.set_trial_system_attr(trial._trial_id, "unused", 1)
        params = {"lr": lr, "width": width, "kind": kind}
        frozen = trial.storage.get_trial(trial._trial_id)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        ended = lr == 0.5
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions=frozen.distributions,
                value=None if ended else lr + width,
                state=optuna.trial.TrialState.PRUNED if ended else optuna.trial.TrialState.COMPLETE,
                intermediate_values={0: 7.0, 3: 5.0},
                user_attrs={"size": 12, "note": "<b>text</b>"},
            )
        )
    study.ask()
    study._storage.remove_session()
    return tmp_path / "old.db"


def known(source: str | Path, objective: str | list[str] = "minimize loss", **options: Any) -> Study:
    return Study(SPACE, "random", objective, earlier=[f"optuna:sqlite:///{source}"], **options)


@pytest.mark.slow
def test_trials_count_by_the_ends_of_their_paths_and_the_file_stays_as_it_is(file: Path) -> None:
    before, folder = hashlib.sha256(file.read_bytes()).hexdigest(), sorted(file.parent.iterdir())
    study = known(file, constraints=["size <= 10"])
    trials = study.warm_start.trials
    assert [trial.params for trial in trials] == [
        {"training.optimizer.lr": 0.01, "model.width": 16, "model.kind": {"type": "cnn"}},
        {"training.optimizer.lr": 0.1, "model.width": 32, "model.kind": {"type": "mlp"}},
        {"training.optimizer.lr": 0.5, "model.width": 8, "model.kind": {"type": "cnn"}},
    ]
    assert [trial.loss for trial in trials] == [16.01, 32.1, 5.0]
    assert [trial.state for trial in trials] == [State.COMPLETED, State.COMPLETED, State.STOPPED]
    assert [trial.violation for trial in trials] == [2.0, 2.0, 2.0]  # user attributes that are numbers are metrics
    assert study.warm_start.left_out == {"no setting of this space": 1, "failed or not finished": 5}
    assert (hashlib.sha256(file.read_bytes()).hexdigest(), sorted(file.parent.iterdir())) == (before, folder)


def test_what_was_exported_comes_back(tmp_path: Path) -> None:
    space = {**SPACE, "model.hidden": [[8], [8, 8]], "model.bias": [True, 1, "1"]}
    (tmp_path / "run").mkdir()
    with Study(space, "random", "maximize score", path=tmp_path / "run" / "study.sqlite") as study:
        for index in range(12):
            trial = study.ask()
            study.report(trial, 2, {"score": index / 2})
            study.tell(trial, {"score": index, "size": 3.0}, stopped="enough" if index % 3 else "")
        ours = study.trials
    export_trials(tmp_path / "run", tmp_path / "out.db")
    again = Study(space, "random", "maximize score", earlier=[f"optuna:sqlite:///{tmp_path / 'out.db'}#run"])
    theirs = again.warm_start.trials
    assert [(trial.params, trial.losses, trial.state) for trial in theirs] == [
        (trial.params, trial.losses, trial.state) for trial in ours
    ]
    assert again.warm_start.left_out == {}


def test_objectives_go_by_the_names_of_metrics_else_in_order(tmp_path: Path) -> None:
    study = stored(tmp_path / "two.db", directions=["minimize", "maximize"])
    distributions: dict[str, Any] = {"model.width": optuna.distributions.IntDistribution(8, 64)}
    study.add_trial(
        optuna.trial.create_trial(values=[1.0, 2.0], params={"model.width": 9}, distributions=distributions)
    )
    space = {"model.width": {"int": [8, 64]}}
    source = [f"optuna:sqlite:///{tmp_path / 'two.db'}"]
    (trial,) = Study(space, "random", ["minimize a", "maximize b"], earlier=source).warm_start.trials
    assert trial.metrics == {"a": 1.0, "b": 2.0}
    with pytest.raises(UsageError, match=r"has 2 objectives, but tuning.objective has 1 \(b\)"):
        Study(space, "random", "maximize b", earlier=source)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["a", "b"])
    (trial,) = Study(space, "random", "maximize b", earlier=source).warm_start.trials
    assert trial.metrics == {"b": 2.0}
    with pytest.raises(UsageError, match="maximized what would count as b here, which is minimized; write"):
        Study(space, "random", "minimize b", earlier=source)


def test_names_that_stand_for_none_or_for_several_are_told(tmp_path: Path) -> None:
    study = stored(tmp_path / "old.db")
    for name in ("lr", "depth"):
        axis: dict[str, Any] = {name: optuna.distributions.FloatDistribution(0.0, 1.0)}
        study.add_trial(optuna.trial.create_trial(value=1.0, params={name: 0.5}, distributions=axis))
    space = {"a.lr": {"float": [0.0, 1.0]}, "b.lr": {"float": [0.0, 1.0]}}
    left_out = Study(space, "random", earlier=[f"optuna:sqlite:///{tmp_path / 'old.db'}"]).warm_start.left_out
    assert left_out == {
        "their parameter 'lr' could be a.lr or b.lr": 1,
        "their parameter 'depth' is not searched here": 1,
    }


@pytest.mark.slow
def test_a_file_with_several_studies_asks_which(file: Path) -> None:
    stored(file, "other")
    with pytest.raises(InputError, match=r"holds 2 studies: 'old', 'other'; write which one, such as optuna:.*#old"):
        known(file)
    assert len(known(f"{file}#old").warm_start.trials) == 3
    with pytest.raises(InputError, match=r"holds no study 'olt'.*Did you mean 'old'"):
        known(f"{file}#olt")


def test_an_older_schema_is_brought_up_to_date_in_the_copy_alone(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    connection.close()
    before = file.read_bytes()
    assert len(known(file).warm_start.trials) == 3
    assert file.read_bytes() == before


def test_a_newer_schema_is_refused(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(InputError, match="was written by a newer Optuna"):
        known(file)
    assert file.read_bytes() == before


class _Touches:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("table", ["study_system_attributes", "trial_user_attributes", "trial_params"])
def test_nothing_in_it_is_unpickled(file: Path, tmp_path: Path, table: str) -> None:
    bomb = pickle.dumps(_Touches(tmp_path / "touched"))
    column = {"trial_params": "distribution_json"}.get(table, "value_json")
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO study_system_attributes (study_id, key, value_json) VALUES (1, 'k', '1')")
        connection.execute(f"UPDATE {table} SET {column} = ?", (bomb,))
    connection.close()
    with pytest.raises(InputError, match="is damaged, or no storage of Optuna"):
        known(file)
    assert not (tmp_path / "touched").exists()


def test_what_is_no_storage(file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database")
    (tmp_path / "cut.db").write_bytes(file.read_bytes()[:9000])
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    with Study({"x": [1, 2]}, "random", path=tmp_path / "study.sqlite"):
        pass
    for name, problem in {
        "no.db": "does not exist; name a SQLite file that Optuna wrote",
        "text.db": "is no SQLite database; name a SQLite file",
        "cut.db": "is damaged, or no storage of Optuna",
        "other.db": r"is no storage of Optuna \(tables: t\)",
        "study.sqlite": "is a study of modelopt, not of Optuna; leave out 'optuna:'",
        "": "is a folder",
    }.items():
        with pytest.raises(InputError, match=problem):
            known(tmp_path / name)
    with pytest.raises(UsageError, match="names no file; of Optuna's storages those in SQLite files are read"):
        Study(SPACE, "random", earlier=["optuna:mysql://x/y"])


@pytest.mark.slow
def test_a_file_in_a_folder_that_cannot_be_written_is_read(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    shutil.copy(file, folder / "old.db")
    folder.chmod(0o555)
    try:
        assert len(known(folder / "old.db").warm_start.trials) == 3
    finally:
        folder.chmod(0o755)


def test_an_address_says_file_and_study() -> None:
    for text, file, study in (
        ("optuna:sqlite:///old.db", "old.db", ""),
        ("optuna:sqlite:////abs/old.db#a/b", "/abs/old.db", "a/b"),
        ("optuna:old.db#s", "old.db", "s"),
    ):
        assert OptunaAddress.parse(text) == OptunaAddress(file, study)
    assert OptunaAddress.parse("runs/digits/3") is None
    assert str(OptunaAddress("old.db", "s")) == "optuna:sqlite:///old.db#s"
