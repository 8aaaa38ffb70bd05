"""Bad experiment files: each mistake is told with its line, the rule and the remedy, all of a file's at once."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import ExperimentError, ModeloptError, UsageError
from modelopt_cli.experiment.experiment import Experiment

GOOD = """\
version: 1
seed: 0
data:
  type: digits
  splits: {validation: 0.2, test: 0.2, seed: 0}
model:
  type: mlp
  hidden: [128, 64]
training:
  epochs: 30
  batch_size: 64
  optimizer: {type: sgd, lr: 0.05, momentum: 0.9}
  schedule: cosine
tuning:
  objective: maximize validation.accuracy
  sampler: random
  space:
    training.optimizer.lr: {float: [1.0e-4, 1.0], log: true}
    training.batch_size: [16, 32]
    model.hidden.0: {int: [16, 256], log: true}
    training.optimizer:
      choice:
        - {type: sgd, momentum: {float: [0.0, 0.99]}}
        - {type: adamw, weight_decay: {float: [1.0e-6, 1.0e-1], log: true}}
"""


def write(folder: Path, *changes: tuple[str, str], text: str = GOOD) -> Path:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "x.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, *changes: tuple[str, str], overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(UsageError) as caught:
        Experiment.load(write(folder, *changes), overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "")


def test_the_good_file_is_good(tmp_path: Path) -> None:
    assert Experiment.load(write(tmp_path)).name == "x"


def test_an_error_as_it_is_shown(tmp_path: Path) -> None:
    assert refusal(tmp_path, ("lr: 0.05", "lerning_rate: 0.1")) == (
        "x.yaml:12:26: unknown key 'lerning_rate' in training.optimizer (sgd)\n"
        "   12 |   optimizer: {type: sgd, lerning_rate: 0.1, momentum: 0.9}\n"
        "      |                          ^^^^^^^^^^^^\n"
        "did you mean 'lr'? known keys: type, lr, momentum, dampening, weight_decay, nesterov, foreach, fused"
    )


# What the user changes, where the error points to, and what it says.
ROWS: list[tuple[tuple[str, str], str, str]] = [
    (("training:", "trainig:"), "x.yaml:9:1", "unknown key 'trainig' in an experiment"),
    (("training:", "trainig:"), "x.yaml:9:1", "did you mean 'training'?"),
    (("seed: 0}", "sed: 0}"), "x.yaml:5:40", "unknown key 'sed' in data.splits"),
    (("version: 1", "version: 2"), "x.yaml:1:10", "version must be 1; got the number 2"),
    (("epochs: 30", 'epochs: "30"'), "x.yaml:10:11", "expected a whole number, got the text '30'"),
    (("epochs: 30", 'epochs: "30"'), "x.yaml:10:11", "write 30, without quotes"),
    (("epochs: 30", "epochs: 2.5"), "x.yaml:10:11", "expected a whole number, got the number 2.5"),
    (("epochs: 30", "epochs: 0"), "x.yaml:10:11", "training.epochs must be at least 1, but is 0"),
    (("epochs: 30", "epochs: null"), "x.yaml:10:11", "expected a whole number, got nothing (null)"),
    (("epochs: 30", "epochs: [1]"), "x.yaml:10:11", "expected a whole number, got a list"),
    (("epochs: 30", "epochs: 100_000"), "x.yaml:10:11", "write 100000 (YAML 1.2 has no digit groups)"),
    (("lr: 0.05", "lr: '0.05'"), "x.yaml:12:30", "expected a number, got the text '0.05'"),
    (("lr: 0.05", "lr: .inf"), "x.yaml:12:30", "must be a finite number"),
    (("epochs: 30", "shuffle: yes"), "x.yaml:10:12", "write true (in YAML 1.2, yes is text)"),
    (("epochs: 30", "loss: entropy"), "x.yaml:10:9", "did you mean 'cross_entropy'?"),
    (("epochs: 30", "monitor: 5"), "x.yaml:10:12", "expected text, got the number 5"),
    (("epochs: 30", "class_weights: 7"), "x.yaml:10:18", "expected balanced or a list, got the number 7"),
    (("epochs: 30", "class_weights: [1, a]"), "x.yaml:10:22", "training.class_weights.1: expected a number"),
    (("[128, 64]", "128"), "x.yaml:8:11", "expected a list, got the number 128"),
    (("[128, 64]", "128"), "x.yaml:8:11", "write [128]"),
    (("[128, 64]", "[128, x]"), "x.yaml:8:17", "model.hidden.1: expected a whole number"),
    (("validation: 0.2", "validation: 1.5"), "x.yaml:5:24", "must be below 1, but is 1.5"),
    (("validation: 0.2", "validation: a"), "x.yaml:5:24", "expected a number or a list, got the text 'a'"),
    (("type: digits", "type: digts"), "x.yaml:4:9", "unknown data type 'digts'. Did you mean 'digits'?"),
    (("type: mlp", "type: mpl"), "x.yaml:7:9", "Did you mean 'mlp'?"),
    (("type: mlp", "typ: mlp"), "x.yaml:7:3", "a model type needs 'type'"),
    (("type: sgd, lr", "type: sdg, lr"), "x.yaml:12:21", "unknown optimizer 'sdg'. Did you mean 'sgd'?"),
    (("schedule: cosine", "schedule: cosin"), "x.yaml:13:13", "Did you mean 'cosine'?"),
    (("schedule: cosine", "schedule: [1]"), "x.yaml:13:13", "[1] is no learning-rate schedule"),
    (("sampler: random", "executor: seriall"), "x.yaml:16:13", "unknown executor 'seriall'. Did you mean 'serial'?"),
    (("seed: 0\ndata", "device: gpu\ndata"), "x.yaml:2:9", "'gpu' is no device; write auto, cpu, cuda or cuda:N"),
    (("seed: 0\ndata", "seed: -1\ndata"), "x.yaml:2:7", "seed must be at least 0, but is -1"),
    (("seed: 0\ndata", "name: a/b\ndata"), "x.yaml:2:7", "the name 'a/b' cannot be a folder's"),
    (("seed: 0\ndata", "name: ..\ndata"), "x.yaml:2:7", "cannot be a folder's"),
    (("seed: 0\ndata", "gates: [acc >= 1, acc]\ndata"), "x.yaml:2:19", "gates.1: 'acc' is no condition"),
    (("seed: 0\ndata", "evaluation: {cv: 1}\ndata"), "x.yaml:2:18", "evaluation.cv must be at least 2, but is 1"),
    (("seed: 0\ndata", "evaluation: {repeats: 2}\ndata"), "x.yaml:2:13", "there are no folds to repeat; set cv"),
    (("seed: 0\ndata", "evaluation: {metrics: [a.b]}\ndata"), "x.yaml:2:24", "Did you mean 'a:b'?"),
    (("maximize validation", "validation"), "x.yaml:15:14", "'validation.accuracy' is no objective"),
    (("maximize validation", "maximize test"), "x.yaml:15:14", "looks at the test split"),
    (("objective: maximize validation.accuracy", "trials: 3"), "x.yaml:14:1", "tuning lacks the key 'objective'"),
    (("sampler: random", "constraints: [a]"), "x.yaml:16:16", "'a' is no condition"),
    (("sampler: random", "workflow: trian"), "x.yaml:16:13", "did you mean 'train'?"),
    (("sampler: random", "workflow: command"), "x.yaml:16:13", "the workflow command needs a command section"),
    # The search space
    (("training.batch_size:", "training.batchsize:"), "x.yaml:19:5", "did you mean 'training.batch_size'?"),
    (("training.batch_size:", "batch_size:"), "x.yaml:19:5", "did you mean 'training.batch_size'?"),
    (("model.hidden.0", "model.hidden.2"), "x.yaml:20:5", "model.hidden has 2 items (0 to 1)"),
    (("model.hidden.0", "model.hidden.0.x"), "x.yaml:20:5", "model.hidden.0 is the value 128, so nothing lies below"),
    (("training.batch_size:", "tuning.trials:"), "x.yaml:19:5", "a search cannot change 'tuning'"),
    (("training.batch_size: [16, 32]", "training.batch_size: []"), "x.yaml:19:26", "list at least one value"),
    (("[16, 32]", "{choice: []}"), "x.yaml:19:35", "list at least one value"),
    (("[1.0e-4, 1.0]", "[1.0, 1.0e-4]"), "x.yaml:18:36", "low 1.0 is above high 0.0001"),
    (("[1.0e-4, 1.0]", "[0, 1.0]"), "x.yaml:18:37", "a log axis needs low > 0"),
    (("[1.0e-4, 1.0]", "[a, 1.0]"), "x.yaml:18:37", "'a' is no number"),
    (("[1.0e-4, 1.0], log: true", "[1.0e-4, 1.0], lg: true"), "x.yaml:18:51", "Did you mean 'log'?"),
    (("[16, 32]", "[16, 0]"), "x.yaml:19:31", "training.batch_size must be at least 1, but is 0"),
    (("[16, 32]", "[16, x]"), "x.yaml:19:31", "training.batch_size: expected a whole number, got the text 'x'"),
    (("[16, 32]", "{float: [1.0, 2.0]}"), "x.yaml:19:40", "expected a whole number, got the number 2.0"),
    (("[0.0, 0.99]", "[-1.0, 0.99]"), "x.yaml:23:42", "training.optimizer.momentum must be at least 0, but is -1"),
    (("type: adamw", "type: adamv"), "x.yaml:24:18", "unknown optimizer 'adamv'"),
    (("weight_decay:", "weight_decy:"), "x.yaml:24:25", "there is no 'weight_decy' in training.optimizer (adamw)"),
    (("{type: adamw,", "{type: adamw, nestrov: 1,"), "x.yaml:24:25", "unknown key 'nestrov' in training.optimizer"),
    (
        ("type: sgd, momentum: {", "type: sgd, nesterov: true, momentum: {"),
        "x.yaml:23:11",
        "nesterov is true with momentum",
    ),
    (
        ("model.hidden.0", "training.optimizer.nesterov"),
        "x.yaml:20:5",
        "there is no 'nesterov' in training.optimizer (adamw)",
    ),
    (("model.hidden.0", "training.optimizer.nesterov"), "x.yaml:20:5", "search it inside the branches that have it"),
    (("sampler: random", "sampler: grid"), "x.yaml:18:36", "give it a step or a count"),
    (("sampler: random", "initial: [{training.batch_size: 17}]"), "x.yaml:16:35", "17 is none of: 16 | 32"),
    (("sampler: random", "initial: [{training.batchsize: 16}]"), "x.yaml:16:14", "Did you mean 'training.batch_size'?"),
    (
        (
            "training:\n  epochs: 30\n  batch_size: 64\n  optimizer: {type: sgd, lr: 0.05, momentum: 0.9}\n"
            "  schedule: cosine\n",
            "",
        ),
        "x.yaml:9:1",
        "the workflow train needs a training section",
    ),
]


@pytest.mark.parametrize(("change", "start", "rule"), ROWS, ids=[row[2][:50] for row in ROWS])
def test_each_mistake(tmp_path: Path, change: tuple[str, str], start: str, rule: str) -> None:
    message = refusal(tmp_path, change)
    assert rule in message
    problem = next(part for part in re.split(r"\n(?=x\.yaml:)", message) if rule in part)
    assert problem.startswith(start + ": ")
    assert "^" in problem
    assert "Input should be" not in message
    assert "pydantic" not in message


def test_all_problems_of_a_file_at_once_in_the_order_of_its_lines(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, ("epochs: 30", "epochs: x"), ("seed: 0\ndata", "seed: x\ndata"), ("sampler: random", "trials: 0")
    )
    assert re.findall(r"^x.yaml:(\d+)", message, re.MULTILINE) == ["2", "10", "16"]


def test_at_most_ten_problems_are_shown(tmp_path: Path) -> None:
    wrong = "\n".join(f"  wrong_{i}: {i}" for i in range(14))
    message = refusal(tmp_path, ("  epochs: 30", wrong))
    assert message.count("unknown key") == 10
    assert message.endswith("... and 4 more problems")


def test_both_ends_of_every_branch_are_tried(tmp_path: Path) -> None:
    message = refusal(tmp_path, ("[0.0, 0.99]", "[0.5, 1.0]"), ("[1.0e-6, 1.0e-1], log: true", "[-1.0, 0.1]"))
    assert "x.yaml:24" in message
    assert "training.optimizer.weight_decay must be at least 0, but is -1" in message


def test_train_for_an_estimator_needs_no_training_section() -> None:
    values = {
        "data": "iris",
        "model": {"type": "sklearn", "estimator": "sklearn.svm.SVC"},
        "tuning": {"objective": "maximize validation.accuracy", "space": {"model.C": {"float": [0.1, 10.0]}}},
    }
    assert Experiment.load(values).tuning is not None


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["training.epochs=x"], "--set training.epochs=x: training.epochs: expected a whole number, got the text 'x'"),
        (
            ["training.epoch=5"],
            "--set training.epoch=5: there is no 'epoch' in training\ndid you mean 'training.epochs'?",
        ),
        (["epochs=5"], "did you mean 'training.epochs'?"),
        (["model.hidden.7=5"], "--set model.hidden.7=5: model.hidden has 2 items (0 to 1)"),
        (["training.epochs.x=5"], "training.epochs is the value 30, so nothing lies below it"),
        (["model.hidden=[1"], "--set model.hidden=[1: this is not YAML"),
        (["model={a: 1, a: 2}"], "the key 'a' stands twice"),
        (["training.optimizer.type=sdg"], "--set training.optimizer.type=sdg: training.optimizer: unknown optimizer"),
        (["training.optimizer.type=adamw"], "x.yaml:12:36: unknown key 'momentum' in training.optimizer (adamw)"),
        (["training.batch_size"], "write PATH=VALUE, e.g. --set training.epochs=5"),
        (["=5"], "write PATH=VALUE"),
        (["a..b=5"], "'a..b' is no path"),
        (["tuning.space.training.epochs=[0, 5]"], "--set tuning.space.training.epochs=[0, 5]: training.epochs must be"),
        (["evaluation.repeats=2"], "--set evaluation.repeats=2: evaluation: repeats is 2"),
        (["seed=\udc80"], "this is not YAML"),
    ],
)
def test_overrides_are_told_by_their_text(tmp_path: Path, overrides: list[str], rule: str) -> None:
    assert rule in refusal(tmp_path, overrides=tuple(overrides))


def test_problems_in_file_and_overrides_together(tmp_path: Path) -> None:
    message = refusal(tmp_path, ("epochs: 30", "epochs: x"), overrides=("seed=x", "training.batch_size=0"))
    assert message.count("x.yaml:") == 1
    assert message.count("--set") == 2


def test_mappings_have_no_lines() -> None:
    with pytest.raises(
        ExperimentError, match=r"^experiment: training.epochs: expected a whole number, got the text 'x'$"
    ):
        Experiment.load({"training": {"epochs": "x"}})
    for value, rule in [({1: 2}, "the key 1 is no text"), ({"seed": object()}, "is no plain value")]:
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


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ({"argv": []}, "command.argv needs at least 1 item"),
        ({"argv": "python"}, "expected a list, got the text 'python'"),
        ({"argv": ["{lr}"], "parameters": {"lrr": 1}}, "parameters has no 'lr' .it has: lrr.. Did you mean 'lrr'?"),
        ({"argv": ["{lr:.3f}"], "parameters": {"lr": 1}}, "is no plain name"),
        ({"argv": ["{}"]}, "is no plain name"),
        ({"argv": ["{lr"]}, "has a single brace"),
        ({"argv": ["a"], "parameters": {"a b": 1}}, "'a b' is no name for a placeholder"),
        ({"argv": ["a"], "parameters": {"a": {"b": 1}}}, "must be a finite number, text"),
        ({"argv": ["a"], "parameters": {"a": float("nan")}}, "must be a finite number, text"),
        ({"argv": ["a"], "timeout": 0}, "command.timeout must be above 0"),
    ],
)
def test_commands(command: dict[str, Any], rule: str) -> None:
    with pytest.raises(ExperimentError, match=rule):
        Experiment.load({"command": command})


def test_braces_in_a_command() -> None:
    command = {"argv": ["python", "{{{lr}}}", "a{b}c"], "parameters": {"lr": 1, "b": [1, None]}}
    assert Experiment.load({"command": command}).require_command().argv[1].format(lr=1, b=2) == "{1}"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def outcome(load: Callable[[], Experiment]) -> tuple[Experiment | None, str]:
    """The experiment and no words, or none and our error's; any other error passes."""
    try:
        return load(), ""
    except ModeloptError as error:
        return None, str(error)


def document() -> dict[str, Any]:
    import yaml

    return yaml.safe_load(GOOD)  # type: ignore[no-any-return]


strange = st.sampled_from(
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
@given(
    place=st.sampled_from([place for place in places(document()) if place]), value=strange, key=st.none() | st.text()
)
def test_any_value_anywhere_is_taken_or_refused_in_our_words(
    place: tuple[Any, ...], value: Any, key: str | None
) -> None:
    values = document()
    inner = values
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1] if key is None or isinstance(inner, list) else key] = copy.deepcopy(value)
    experiment, error = outcome(lambda: Experiment.load(values))
    assert "Input should" not in error
    assert "validation error" not in error
    if experiment:
        assert Experiment.load(experiment.resolved()) == experiment


@pytest.mark.slow
@settings(deadline=None)
@given(st.text())
def test_any_override_is_taken_or_refused_in_our_words(text: str) -> None:
    for setting in (text, f"training.{text}", f"training.epochs={text}", f"{text}=1"):
        _, error = outcome(lambda setting=setting: Experiment.load(document(), [setting]))
        assert "Input should" not in error


TREE = {"type": "sklearn", "estimator": "sklearn.tree.DecisionTreeClassifier"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": TREE}, "the student is sklearn, but distillation trains torch models"),
        ({"evaluation": {"cv": 3}}, "a distillation is judged on the validation split"),
        ({"training": None}, "a distillation needs a training section"),
        ({"data": None}, "a distillation needs a data section"),
        ({"distillation": None, "pruning": {"amount": 0.5}, "model": TREE}, "the model is sklearn, but pruning takes"),
        ({"distillation": None, "pruning": {"amount": 0.5}, "evaluation": {"cv": 3}}, "a pruning is judged on"),
    ],
)
def test_validate_refuses_what_the_files_workflow_would(changes: dict[str, Any], told: str) -> None:
    whole: dict[str, Any] = {
        "data": {"type": "digits", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
        "model": {"type": "mlp", "hidden": [8]},
        "training": {"epochs": 1, "optimizer": "adam"},
        "distillation": {"teacher": {"model": TREE}},
    }
    assert outcome(lambda: Experiment.load(whole))[1] == ""
    changed = {key: value for key, value in {**whole, **changes}.items() if value is not None}
    assert told in outcome(lambda: Experiment.load(changed))[1]


def test_the_remedy_for_a_number_in_place_of_a_list_has_as_many_items_as_are_needed() -> None:
    with pytest.raises(ExperimentError, match=r"write \[16, 16\]"):
        Experiment.load({"version": 1, "data": {"type": "images", "path": "x", "size": 16}})
    with pytest.raises(ExperimentError, match=r"write \[8\]"):
        Experiment.load({"version": 1, "model": {"type": "mlp", "hidden": 8}})
