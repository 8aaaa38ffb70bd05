"""Experiments as values: what they resolve to, how values are changed, and that nothing is lost on the way."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.core.yaml_dumper import dump
from modelopt_cli.experiment.document.document import Document, PathError, value_at
from modelopt_cli.experiment.document.marks import Mark, Marks, Source
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.sections import LAYOUT
from modelopt_cli.tuning.space.space import Space

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.yaml"))
DIGITS: dict[str, Any] = {
    "data": {"type": "digits"},
    "model": "mlp",
    "training": {"optimizer": {"type": "sgd", "momentum": 0.9}, "schedule": "cosine"},
}


def same(experiment: Experiment, folder: Path) -> bool:
    """Whether the experiment survives resolving, writing, pickling, and reading in another folder."""
    path = folder / "other.yaml"
    path.write_text(dump(experiment.resolved()))
    copies = [Experiment.load(experiment.resolved()), Experiment.load(path), pickle.loads(pickle.dumps(experiment))]
    return all(copy == experiment and copy.resolved() == experiment.resolved() for copy in copies)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_files_load_and_round_trip(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST", str(tmp_path))
    monkeypatch.setenv("CIFAR100", str(tmp_path))
    experiment = Experiment.load(path)
    assert same(experiment, tmp_path)
    assert experiment.folder == path.parent
    if experiment.tuning is not None and experiment.tuning.space:
        for setting in Space.from_spec(experiment.tuning.space).corners():
            changed = experiment.with_values(setting)
            assert same(changed, tmp_path)
            for name, value in setting.items():
                if not isinstance(value, dict):
                    taken = changed.value(name)
                    assert taken == value or (isinstance(taken, dict) and taken["type"] == value), name


@pytest.mark.parametrize("family", ["optimizers", "schedules"])
def test_strategies_of_training_round_trip(family: str, tmp_path: Path) -> None:
    required = {"step": {"every": 3}, "multi_step": {"at": [2, 4]}}
    for name in FAMILIES[family].names():
        fields = FAMILIES[family].get(name).model_fields
        given = {"type": name}
        given |= {key: value for key, value in required.get(name, {}).items() if key in fields}
        if any(field.is_required() for key, field in fields.items() if key not in given):
            continue
        experiment = Experiment.load({**DIGITS, "training": {family[:-1]: given}})
        assert experiment.resolved()["training"][family[:-1]]["type"] == name
        assert same(experiment, tmp_path)


@pytest.mark.parametrize("family", ["samplers", "stoppers", "schedulers", "executors"])
def test_strategies_of_tuning_round_trip(family: str, tmp_path: Path) -> None:
    required = {"threshold": {"condition": "validation.loss <= 2"}, "pbt": {"perturb": ["training.epochs"]}}
    for name in FAMILIES[family].names():
        given = {"type": name, **required.get(name, {})}
        space = {"training.epochs": [1, 2]}
        tuning = {"objective": "minimize validation.loss", "trials": 2, "space": space, family[:-1]: given}
        experiment = Experiment.load({**DIGITS, "tuning": tuning})
        assert experiment.resolved()["tuning"][family[:-1]]["type"] == name
        assert same(experiment, tmp_path)


def test_resolved_holds_defaults_with_type_first() -> None:
    resolved = Experiment.load(DIGITS).resolved()
    assert next(iter(resolved["model"])) == "type"
    assert resolved["training"]["schedule"] == {"type": "cosine", "end": 0.0}
    assert resolved["training"]["epochs"] == 10
    assert resolved["version"] == 1
    assert "tuning" not in resolved


def test_document_stays_as_written_and_cannot_be_changed() -> None:
    experiment = Experiment.load(DIGITS, ["training.epochs=5"])
    assert experiment.document["training"] == {**DIGITS["training"], "epochs": 5}
    experiment.document["training"]["epochs"] = 7
    assert experiment.document["training"]["epochs"] == 5
    with pytest.raises(ValueError, match="frozen"):
        experiment.seed = 3  # type: ignore[misc]


def test_equal_experiments() -> None:
    one, other = Experiment.load(DIGITS), Experiment.load({**DIGITS, "seed": 0})
    assert one == other
    assert hash(one) == hash(other)
    assert one != Experiment.load({**DIGITS, "seed": 1})
    assert one != "experiment"


def test_names(tmp_path: Path) -> None:
    for stem, name in [("digits", "digits"), ("my run (2)", "my-run--2-"), ("ä", "experiment"), ("...", "experiment")]:
        path = tmp_path / f"{stem}.yaml"
        path.write_text("version: 1\n")
        assert Experiment.load(path).name == name
        assert Experiment.load(str(path), ["name=other"]).name == "other"
    assert Experiment.load({}).name == "experiment"


def test_overrides_are_read_as_yaml() -> None:
    experiment = Experiment.load(
        DIGITS,
        [
            "training.optimizer.lr=1e-3",
            "model.hidden=[64, 32]",
            "training.schedule={type: warmup, then: cosine}",
            "training.schedule.epochs=2.5",
            "training.monitor=validation.loss",
            "training.patience=",
            "gates=['test.accuracy >= 0.9']",
            "name='1'",
        ],
    )
    training = experiment.resolved()["training"]
    assert training["optimizer"]["lr"] == 0.001
    assert experiment.resolved()["model"]["hidden"] == [64, 32]
    assert training["schedule"]["epochs"] == 2.5
    assert training["schedule"]["then"]["type"] == "cosine"
    assert (training["monitor"], training["patience"]) == ("validation.loss", None)
    assert experiment.gates == ("test.accuracy >= 0.9",)
    assert experiment.name == "1"


def test_overrides_go_from_the_shortest_path_to_the_longest() -> None:
    overrides = ["training.optimizer.lr=0.5", "training.optimizer=adamw", "model.hidden=[1]", "model=cnn", "model=mlp"]
    resolved = Experiment.load(DIGITS, overrides).resolved()
    assert (resolved["training"]["optimizer"]["type"], resolved["training"]["optimizer"]["lr"]) == ("adamw", 0.5)
    assert resolved["model"]["hidden"] == [1]


def test_overrides_create_what_is_missing() -> None:
    overrides = ["training.optimizer.lr=0.5", "training.schedule.end=0.1", "evaluation.cv=3", "data.splits.test=0.3"]
    resolved = Experiment.load({"data": "digits", "training": {"schedule": "cosine"}}, overrides).resolved()
    assert resolved["training"]["optimizer"] | {"type": "adam", "lr": 0.5} == resolved["training"]["optimizer"]
    assert resolved["training"]["schedule"] == {"type": "cosine", "end": 0.1}
    assert resolved["evaluation"]["cv"] == 3
    assert resolved["data"]["splits"]["test"] == 0.3
    assert Experiment.load({}, ["model.type=mlp", "model.hidden=[3]"]).resolved()["model"]["hidden"] == [3]
    assert Experiment.load({}, ["model.hidden=[3]", "model.type=mlp"]).resolved()["model"]["hidden"] == [3]


def test_overrides_of_the_space_take_paths_with_dots() -> None:
    tuning = {"objective": "minimize validation.loss", "space": {"training.epochs": [1, 2]}}
    overrides = ["tuning.space.training.batch_size=[1, 2]", "tuning.space.training.epochs={int: [1, 9]}"]
    overrides.append("tuning.space.training.epochs.log=true")
    space = Experiment.load({**DIGITS, "tuning": tuning}, overrides).require_tuning().space
    assert space == {"training.epochs": {"int": [1, 9], "log": True}, "training.batch_size": [1, 2]}


def test_with_values_applies_a_chosen_section_before_what_is_in_it() -> None:
    experiment = Experiment.load(DIGITS)
    changed = experiment.with_values(
        {"training.optimizer.lr": 0.1, "training.optimizer": {"type": "adamw"}, "training.schedule.end": 0.5}
    )
    assert changed.document["training"] == {
        "optimizer": {"type": "adamw", "lr": 0.1},
        "schedule": {"type": "cosine", "end": 0.5},
    }
    assert experiment == Experiment.load(DIGITS)
    assert changed.data is experiment.data
    assert changed == Experiment.load(changed.document)


def test_with_values_changes_one_item_of_a_default_list() -> None:
    experiment = Experiment.load(DIGITS)
    assert isinstance(experiment.value("model.hidden"), list)
    changed = experiment.with_values({"model.hidden.0": 7})
    assert changed.value("model.hidden") == [7, *experiment.value("model.hidden")[1:]]


def test_with_values_takes_numbers_of_numpy_and_tuples() -> None:
    values = {
        "training.optimizer.lr": np.float64(0.5),
        "training.epochs": np.int64(3),
        "model.hidden": (4, np.int32(5)),
    }
    resolved = Experiment.load(DIGITS).with_values(values).resolved()
    assert type(resolved["training"]["optimizer"]["lr"]) is float
    assert type(resolved["training"]["epochs"]) is int
    assert resolved["model"]["hidden"] == [4, 5]


def test_with_values_takes_arguments_of_an_estimator() -> None:
    experiment = Experiment.load({"model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"}})
    changed = experiment.with_values({"model.C": 2.0, "model.gamma": None, "model.class_weight": {"0": 1.0}})
    assert changed.value("model.C") == 2.0
    assert changed.value("model.gamma") is None
    with pytest.raises(KeyError):
        experiment.value("model.C")
    steps = {"type": "sklearn", "steps": [{"estimator": "sklearn.preprocessing.StandardScaler"}]}
    piped = Experiment.load({"model": steps}).with_values({"model.steps.0.with_mean": False})
    assert piped.value("model.steps.0") == {"estimator": "sklearn.preprocessing.StandardScaler", "with_mean": False}


def test_with_no_values_is_the_same() -> None:
    experiment = Experiment.load(DIGITS)
    assert experiment.with_values({}) == experiment


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**40),
            "training.epochs": st.integers(1, 10**6),
            "training.optimizer.lr": st.floats(0, 10),
            "training.optimizer": st.sampled_from(["adam", {"type": "sgd"}, {"type": "adamw", "lr": 0.5}]),
            "training.schedule": st.sampled_from(["constant", {"type": "cosine", "end": 0.25}]),
            "model.hidden": st.lists(st.integers(1, 512), min_size=1),
            "data.splits.seed": st.none() | st.integers(0, 9),
            "gates": st.lists(st.sampled_from(["validation.loss > 1", "train.seconds <= 1e-3"])),
        },
    )
)
def test_with_values_equals_loading_the_changed_document(values: dict[str, Any]) -> None:
    experiment = Experiment.load(DIGITS).with_values(values)
    assert experiment == Experiment.load(experiment.document)
    assert experiment == Experiment.load(experiment.resolved())
    for path, value in values.items():
        if not isinstance(value, dict | str):
            assert experiment.value(path) == value


def test_relative_paths_count_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "x.yaml"
    text = "data: {type: csv, path: a/b.csv, target: y}\nmodel: {type: python, target: 'm:f'}\ncommand: {argv: [a]}\n"
    path.write_text(text)
    experiment = Experiment.load(path)
    folder = str(tmp_path / "sub")
    assert experiment.resolved()["data"]["path"] == f"{folder}/a/b.csv"
    assert experiment.resolved()["model"]["folder"] == folder
    assert experiment.require_command().cwd == folder
    assert experiment.value("data.path") == "a/b.csv"
    assert experiment.folder == tmp_path / "sub"
    assert experiment.with_values({"data.path": "c.csv"}).resolved()["data"]["path"] == f"{folder}/c.csv"
    assert experiment.with_values({"data.path": "/c.csv"}).resolved()["data"]["path"] == "/c.csv"
    assert experiment.with_values({"data.path": "~/c.csv"}).resolved()["data"]["path"] == "/home/someone/c.csv"
    assert experiment.with_values({"model.folder": "../x"}).resolved()["model"]["folder"] == f"{folder}/../x"
    assert same(experiment, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert Experiment.load("sub/x.yaml") == experiment
    assert Experiment.load({"command": {"argv": ["a"], "cwd": "sub"}}).require_command().cwd == folder


def test_the_files_own_values_are_a_setting_of_its_space() -> None:
    experiment = Experiment.load(CONFIGS[0].parent / "digits_mlp.yaml")
    setting = Space.from_spec(experiment.require_tuning().space).from_values(experiment.value)
    assert setting is not None
    assert setting["training.optimizer.lr"] == 0.05
    assert setting["training.optimizer.momentum"] == 0.9


def test_changing_the_tuning_section_checks_the_space_again() -> None:
    tuning = {"objective": "minimize validation.loss", "space": {"training.epochs": [1, 2]}}
    experiment = Experiment.load({**DIGITS, "tuning": tuning})
    assert experiment.with_values({"tuning.trials": 5}).require_tuning().trials == 5
    with pytest.raises(ExperimentError, match=r"training\.epochs must be at least 1"):
        experiment.with_values({"tuning.space": {"training.epochs": [0]}})


# Paths

DOCUMENT = Document(DIGITS, Marks(Mark(Source("experiment"))), layout=LAYOUT)


def test_put_shares_what_is_not_on_the_path() -> None:
    changed = DOCUMENT.put("training.optimizer.lr", 1).values
    assert changed["training"]["optimizer"] == {"type": "sgd", "momentum": 0.9, "lr": 1}
    assert changed["data"] is DIGITS["data"]
    assert "lr" not in DIGITS["training"]["optimizer"]


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("training.epoch", "there is no 'epoch' in training"),
        ("training.optimizer.beta", r"there is no 'beta' in training.optimizer \(sgd\)"),
        ("nothing", "there is no 'nothing' in an experiment"),
        ("seed.x", "seed is the value 0"),
        ("model.hidden.-1", "so there is no '-1' in it"),
        ("training.class_weights.0", r"training.class_weights is not set \(null\)"),
        ("", "is no path"),
    ],
)
def test_paths_that_name_nothing(path: str, rule: str) -> None:
    with pytest.raises(PathError, match=rule):
        DOCUMENT.put(path, 1)


def test_every_path_can_be_set_and_found() -> None:
    experiment = Experiment.load(DIGITS)
    resolved = experiment.resolved()
    known = list(DOCUMENT.paths())
    assert {"training.optimizer.lr", "model.hidden.0", "tuning.space", "command.argv", "data.splits.seed"} <= set(known)
    for path in known:
        mark = Mark(Source("override"))
        changed = DOCUMENT.override(path, "new", mark, {})
        assert value_at(changed.values, path) == "new"
        keys = next(keys for keys, other in changed.marks.values.items() if other is mark)
        assert ".".join(map(str, keys)) == path
    for path in ("training.optimizer.lr", "model.hidden.0", "data.augment"):
        assert value_at(resolved, path) == experiment.value(path)
    for path in ("training.nothing", "model.hidden.9", "seed.x", "model.hidden.x"):
        with pytest.raises(KeyError):
            value_at(resolved, path)


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("training.batchsize", "training.batch_size"),
        ("optimizer.lr", "training.optimizer.lr"),
        ("lr", "training.optimizer.lr"),
        ("model.hiden.0", "model.hidden.0"),
        ("qqqqqqq", ""),
    ],
)
def test_nearest(path: str, near: str) -> None:
    assert DOCUMENT.nearest(path) == near
