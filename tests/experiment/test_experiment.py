"""Experiments as values: what they resolve to, how values are changed, and that nothing is lost on the way."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.core.yaml_dumper import dump
from modelopt_cli.experiment.document.marks import Finding
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.tuning.space.space import Space
from tests.support.bad_experiments import GOOD, outcome, write

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
    required: dict[str, dict[str, Any]] = {"step": {"every": 3}, "multi_step": {"at": [2, 4]}}
    for name in FAMILIES[family].names():
        fields = FAMILIES[family].get(name).model_fields
        given: dict[str, Any] = {"type": name}
        given |= {key: value for key, value in required.get(name, {}).items() if key in fields}
        if any(field.is_required() for key, field in fields.items() if key not in given):
            continue
        experiment = Experiment.load({**DIGITS, "training": {family[:-1]: given}})
        assert experiment.resolved()["training"][family[:-1]]["type"] == name
        assert same(experiment, tmp_path)


@pytest.mark.parametrize("family", ["samplers", "stoppers", "schedulers", "executors"])
def test_strategies_of_tuning_round_trip(family: str, tmp_path: Path) -> None:
    required: dict[str, dict[str, Any]] = {
        "threshold": {"condition": "validation.loss <= 2"},
        "pbt": {"perturb": ["training.epochs"]},
    }
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


@pytest.mark.slow
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


def test_mappings_have_no_lines() -> None:
    with pytest.raises(
        ExperimentError, match=r"^experiment: training.epochs: expected a whole number, got the text 'x'$"
    ):
        Experiment.load({"training": {"epochs": "x"}})
    wrong: list[tuple[dict[Any, Any], str]] = [
        ({1: 2}, "the key 1 is no text"),
        ({"seed": object()}, "is no plain value"),
    ]
    for value, rule in wrong:
        with pytest.raises(ExperimentError, match=rule):
            Experiment.load(value)
    endless: dict[str, Any] = {}
    endless["data"] = endless
    with pytest.raises(ExperimentError, match="nested more than 64 deep"):
        Experiment.load(endless)


def test_values_of_a_search_are_told_by_path_and_value(tmp_path: Path) -> None:
    experiment = Experiment.load(write(tmp_path))
    with pytest.raises(
        ExperimentError, match=r"x.yaml: training.epochs=0: training.epochs must be at least 1, but is 0"
    ):
        experiment.with_values({"training.epochs": 0, "training.batch_size": 8})
    with pytest.raises(ExperimentError, match=r"training.optimizer.momentum=0.5: there is no 'momentum'"):
        experiment.with_values({"training.optimizer": {"type": "adamw"}, "training.optimizer.momentum": 0.5})
    with pytest.raises(ExperimentError, match="objective"):
        experiment.with_values({"tuning.objective": "best"})
    with pytest.raises(ExperimentError, match="names nothing"):
        experiment.with_values({"tuning.space": {"a.b": [1]}})


def test_mistakes_are_shown_in_the_file_and_elsewhere_by_its_name(tmp_path: Path) -> None:
    """A worker process gets an experiment without the text of its file; one with other values has no such text."""
    experiment = Experiment.load(write(tmp_path), ["training.epochs=3"])
    wrong = Finding(("model", "hidden"), "too wide", "write less")
    for read, start in [
        (experiment, f"{tmp_path / 'x.yaml'}:8:11: too wide\n    8 |   hidden: [128, 64]"),
        (pickle.loads(pickle.dumps(experiment)), f"{tmp_path / 'x.yaml'}: too wide\nwrite less"),
        (experiment.with_values({"seed": 1}), f"{tmp_path / 'x.yaml'}: too wide\nwrite less"),
    ]:
        read.refuse([])
        with pytest.raises(ExperimentError) as caught:
            read.refuse([wrong])
        assert str(caught.value).startswith(start)
    with pytest.raises(ExperimentError, match=r"^--set training.epochs=3: too many$"):
        experiment.refuse([Finding(("training", "epochs"), "too many")])


def test_require_says_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "y.yaml"
    path.write_text("data: iris\n")
    experiment = Experiment.load(path)
    experiment.require("data")
    with pytest.raises(ExperimentError, match=r"y.yaml: there is no model section; add one, e.g. model: \{type: mlp\}"):
        experiment.require("data", "model")
    for name in ("training", "tuning", "command"):
        with pytest.raises(ExperimentError, match=f"no {name} section"):
            getattr(experiment, f"require_{name}")()


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in paths(item, (*path, key)))]


def document() -> dict[str, Any]:
    return yaml.safe_load(GOOD)


strange: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**30,
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "sgd",
        "a.b",
        [],
        [[]],
        [1, "a"],
        {},
        {"type": 1},
        {"type": "sgd"},
        {"type": "mlp"},
        {"float": [0, 1]},
        {"choice": []},
        {"a": {"b": 1}},
        "maximize a",
        {"int": [1, 2]},
    ]
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from([path for path in paths(document()) if path]), value=strange, key=st.none() | st.text())
def test_any_value_anywhere_is_taken_or_refused_in_our_words(
    path: tuple[Any, ...], value: Any, key: str | None
) -> None:
    values = document()
    inner = values
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1] if key is None or isinstance(inner, list) else key] = copy.deepcopy(value)
    experiment, error = outcome(lambda: Experiment.load(values))
    assert "Input should" not in error
    assert "validation error" not in error
    if experiment:
        assert Experiment.load(experiment.resolved()) == experiment
