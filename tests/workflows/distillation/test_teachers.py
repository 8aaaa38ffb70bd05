"""Teachers in the student's place: they answer as behind their own preprocessing, or are refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from modelopt_cli.core.errors import InputError, ModeloptError, RefusedError, UsageError
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.distillation.adapting import Adapted, EstimatorModule, in_students_place
from modelopt_cli.distillation.settings import TeacherSettings
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.files.checkpoints import Checkpoint
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.training.inference import as_tensor, input_transform, restore_targets
from modelopt_cli.workflows import distill, evaluate, train
from modelopt_cli.workflows.distillation.teachers import given
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.context import Context

TRAINING: dict[str, Any] = {"epochs": 2, "batch_size": 16, "optimizer": {"type": "adam", "lr": 0.01}}
FOREST = {"type": "sklearn", "n_estimators": 5, "random_state": 0}
RNG = np.random.default_rng(0)


def split(seed: int) -> dict[str, Any]:
    """Other splits have other means and deviations."""
    return {"validation": 0.2, "test": 0.3, "seed": seed}


def table(folder: Path, count: int = 90) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"size": rng.normal(50, 20, count), "colour": rng.choice(["red", "green", "blue"], count)})
    frame["shape"], frame["age"] = rng.choice(["a", "b"], count), rng.integers(0, 90, count)
    frame["kind"] = np.where((frame["colour"] == "red") ^ (frame["size"] > 50), "yes", "no")
    frame.to_csv(folder / "table.csv", index=False)
    return {"type": "csv", "path": str(folder / "table.csv"), "target": "kind"}


def arrays(folder: Path, inputs: np.ndarray[Any, Any], targets: Any = None) -> dict[str, Any]:
    targets = RNG.integers(0, 3, len(inputs)) if targets is None else targets
    np.savez(folder / "arrays.npz", inputs=inputs, targets=targets)
    return {"type": "npz", "path": str(folder / "arrays.npz")}


MLP = {"type": "mlp", "hidden": [8]}
DATA: dict[str, Callable[[Path], dict[str, Any]]] = {
    "numbers": lambda _: {"type": "iris"},
    "numbers, not standardised": lambda _: {"type": "iris", "standardize": False},
    "categories": table,
    "many numbers": lambda _: {"type": "digits"},
    "grey images": lambda folder: arrays(folder, RNG.integers(0, 256, (60, 1, 5, 5)).astype(np.uint8)),
    "colour images": lambda folder: arrays(folder, RNG.integers(0, 256, (60, 3, 5, 5)).astype(np.uint8)),
    "maps": lambda folder: arrays(folder, RNG.normal(3, 5, (60, 2, 4, 4)) * np.array([1, 9])[:, None, None]),
    "sequences": lambda folder: arrays(folder, RNG.normal(3, 5, (60, 6, 2)) * np.array([1, 9])),
    "values": lambda _: {"type": "diabetes"},
    "several values": lambda folder: arrays(folder, RNG.normal(size=(60, 4)), RNG.normal([5, -100], [9, 1], (60, 2))),
    "labels": lambda folder: arrays(folder, RNG.normal(2, 3, size=(60, 4)), RNG.integers(0, 2, (60, 3))),
}


def taught(data: dict[str, Any], model: dict[str, Any], folder: Path, seed: int = 1, **more: Any) -> Path:
    """A trained teacher's file, of these splits."""
    sections = {"data": {**data, "splits": split(seed)}, "model": model, **more}
    if model["type"] != "sklearn":
        sections["training"] = TRAINING
    with RunDirectory.create_at(folder / f"teacher-{len(list(folder.glob('teacher-*')))}") as directory:
        train.run(Experiment.load(sections), Context(directory=directory))
        return directory.path_of("model.pt")


def student(data: dict[str, Any], **sections: Any) -> Experiment:
    return Experiment.load({"data": {**data, "splits": split(0)}, "model": MLP, "training": TRAINING, **sections})


def answers(checkpoint: Checkpoint, experiment: Experiment) -> tuple[Any, Any]:
    """(of the teacher in the student's place, behind its own preprocessing), on the student's test samples."""
    prepared, raw = data_cache.prepared_data(experiment), data_cache.raw_data(experiment)
    assert prepared.test is not None
    module = in_students_place(checkpoint, prepared, "teacher").eval()
    with torch.no_grad():
        inputs = input_transform(prepared.preprocessing, torch.device("cpu"))(as_tensor(prepared.test.inputs))
        answered = restore_targets(module(inputs).numpy(), prepared.preprocessing)
    own = Preprocessing.from_plain(checkpoint.preprocessing).part(raw, data_cache.split_data(experiment).test)
    return answered, evaluate._scores(checkpoint, own.inputs)  # private: outputs before they are metrics


@pytest.mark.slow
@pytest.mark.parametrize("standardize", [None, False], ids=["standardised", "raw"])
@pytest.mark.parametrize("name", DATA)
def test_a_teacher_answers_as_behind_its_own_preprocessing(name: str, standardize: Any, tmp_path: Path) -> None:
    data = DATA[name](tmp_path)
    checkpoint = checkpoints.load(
        taught(data if standardize is None else {**data, "standardize": False}, MLP, tmp_path)
    )
    answered, expected = answers(checkpoint, student(data))
    assert np.allclose(answered, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    if "not standardised" in name:
        return
    prepared = data_cache.prepared_data(student(data))
    same = checkpoints.load(taught(data, MLP, tmp_path, seed=0))
    assert isinstance(in_students_place(checkpoint, prepared, "teacher"), Adapted)
    assert not isinstance(in_students_place(same, prepared, "teacher"), Adapted), "nothing lies between"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numbers", "categories", "grey images", "maps", "labels"])
def test_a_scikit_learn_teachers_logits_are_logs_of_its_probabilities(name: str, tmp_path: Path) -> None:
    data = DATA[name](tmp_path)
    model: dict[str, Any] = {**FOREST, "estimator": "sklearn.ensemble.RandomForestClassifier"}
    if name == "grey images":  # trees part pixels at values that other images have: rounding takes these either way
        model = {"type": "sklearn", "estimator": "sklearn.linear_model.LogisticRegression", "C": 0.1, "max_iter": 500}
    checkpoint = checkpoints.load(taught(data, model, tmp_path))
    answered, expected = answers(checkpoint, student(data))
    assert np.isfinite(answered).all()
    if name == "labels":
        assert np.allclose(1 / (1 + np.exp(-answered)), np.clip(expected.values, 1e-7, 1 - 1e-7), atol=1e-6)
        return
    assert np.allclose(np.exp(answered), np.clip(expected.values, 1e-7, 1), atol=1e-6)
    softmax = np.exp(answered) / np.exp(answered).sum(1, keepdims=True)
    assert np.allclose(softmax, expected.values, atol=1e-5)


@pytest.mark.parametrize("name", ["values", "several values"])
@pytest.mark.parametrize("standardize", [None, True])
def test_a_scikit_learn_teacher_of_values_answers_in_the_targets_units(
    name: str, standardize: Any, tmp_path: Path
) -> None:
    data = DATA[name](tmp_path)
    model: dict[str, Any] = {"type": "sklearn", "estimator": "sklearn.linear_model.LinearRegression"}
    if name == "several values":
        model = {**FOREST, "estimator": "sklearn.ensemble.RandomForestRegressor"}
    checkpoint = checkpoints.load(taught({**data, "standardize": standardize}, model, tmp_path))
    answered, expected = answers(checkpoint, student(data))
    values = np.asarray(getattr(expected, "values", expected)).reshape(answered.shape)
    assert np.allclose(answered, values, rtol=1e-4, atol=1e-4 * np.abs(values).max())


def test_an_estimator_without_probabilities_cannot_teach(tmp_path: Path) -> None:
    path = taught({"type": "iris"}, {"type": "sklearn", "estimator": "sklearn.svm.LinearSVC"}, tmp_path)
    with pytest.raises(UsageError, match=r"LinearSVC gives no probabilities \(predict_proba\).*CalibratedClassifierCV"):
        distill.run(student({"type": "iris"}, distillation={"teacher": str(path)}), Context())


@pytest.mark.slow
def test_a_tap_of_a_teacher_with_other_statistics_is_named_as_in_its_model(tmp_path: Path) -> None:
    path = taught({"type": "iris"}, {"type": "mlp", "hidden": [12, 12]}, tmp_path)
    losses = [{"type": "labels"}, {"type": "soft_targets"}, {"type": "fitnets", "taps": ["layers.0"]}]
    for where in ("none", "memory"):
        section = {"teacher": str(path), "losses": losses, "cache": {"where": where}, "baseline": False}
        distill.run(student({"type": "iris"}, distillation=section), Context())
    section["losses"] = [*losses[:2], {"type": "fitnets", "taps": ["layers.9"]}]
    with pytest.raises(UsageError, match=r"the student has no module 'layers\.9'; the nearest are: layers\."):
        distill.run(student({"type": "iris"}, distillation=section), Context())


def test_other_data_are_refused_and_never_broadcast(tmp_path: Path) -> None:
    teacher = checkpoints.load(taught({"type": "iris"}, MLP, tmp_path))
    wine = data_cache.prepared_data(student({"type": "wine"}))
    with pytest.raises(UsageError, match=r"the teacher .*setosa.*; use a teacher of the same data"):
        in_students_place(teacher, wine, "teacher")
    digits = data_cache.prepared_data(student({"type": "digits"}))
    with pytest.raises(UsageError, match="the teacher knows 3 classes, but the data have 10"):
        in_students_place(teacher, digits, "teacher")
    values = data_cache.prepared_data(student({"type": "diabetes"}))
    with pytest.raises(UsageError, match="the teacher was trained for classification, but the data are regression"):
        in_students_place(teacher, values, "teacher")


def csv(path: Path, frame: pd.DataFrame) -> dict[str, Any]:
    frame.to_csv(path, index=False)
    return {"type": "csv", "path": str(path), "target": "y"}


def test_labels_in_another_order_or_by_other_names_and_other_columns_are_refused(tmp_path: Path) -> None:
    numbers = RNG.normal(size=(60, 2))
    frame = pd.DataFrame({"a": numbers[:, 0], "b": numbers[:, 1], "y": ["cat", "dog", "eel"] * 20})
    path = taught(csv(tmp_path / "one.csv", frame), MLP, tmp_path)

    def refused(changed: pd.DataFrame, match: str) -> None:
        prepared = data_cache.prepared_data(student(csv(tmp_path / f"{match[:12]}.csv".replace("/", "-"), changed)))
        with pytest.raises(UsageError, match=match):
            in_students_place(checkpoints.load(path), prepared, "teacher")

    names = frame.assign(y=["cat", "dog", "fox"] * 20)
    refused(names, "by other names: output 2 is 'eel' for it, and 'fox' in the data")
    refused(frame.rename(columns={"b": "c"}), r"takes columns \('a', 'b'\), but the student's data have \('a', 'c'\)")
    refused(frame[["b", "a", "y"]], "takes columns")
    refused(frame.assign(c=1.0 * np.arange(60))[["a", "b", "c", "y"]], r"samples of shape \(2,\), but .* \(3,\)")
    refused(frame.assign(b=["u", "v", "w"] * 20), "takes categories")
    checkpoint = checkpoints.load(path)
    swapped = Checkpoint(**{**vars(checkpoint), "label_names": ("dog", "cat", "eel")})
    prepared = data_cache.prepared_data(student(csv(tmp_path / "again.csv", frame)))
    with pytest.raises(UsageError, match="in another order: output 0 is 'dog' for it, and 'cat' in the data"):
        in_students_place(swapped, prepared, "teacher")


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    targets = np.arange(60) % 3
    large = arrays(tmp_path, RNG.integers(0, 256, (60, 1, 6, 6)).astype(np.uint8), targets)
    path = taught(large, MLP, tmp_path)
    (tmp_path / "small").mkdir()
    small = arrays(tmp_path / "small", RNG.integers(0, 256, (60, 1, 5, 5)).astype(np.uint8), targets)
    with pytest.raises(UsageError, match=r"samples of shape \(1, 6, 6\), but the student's data have \(1, 5, 5\)"):
        distill.run(student(small, distillation={"teacher": str(path)}), Context())
    (tmp_path / "floats").mkdir()
    floats = arrays(tmp_path / "floats", RNG.normal(size=(60, 1, 6, 6)), targets)
    with pytest.raises(UsageError, match="inputs of the kind images, but the student's data have arrays"):
        distill.run(student(floats, distillation={"teacher": str(path)}), Context())


def test_weights_of_a_model_are_the_model(tmp_path: Path) -> None:
    experiment = student({"type": "iris"})
    prepared = data_cache.prepared_data(experiment)
    checkpoint = checkpoints.load(taught({"type": "iris"}, {"type": "mlp", "hidden": [12]}, tmp_path, seed=0))
    model = checkpoint.model
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    section = TeacherSettings.model_validate(
        {"model": {"type": "mlp", "hidden": [12]}, "weights": str(tmp_path / "weights.pth")}
    )
    learned = given(section, "teacher", 0, prepared)
    for name, tensor in model.state_dict().items():
        assert torch.equal(learned.checkpoint.model.state_dict()[name], tensor)
    other = TeacherSettings.model_validate({"model": MLP, "weights": section.weights})
    with pytest.raises(ModeloptError, match=r"layers\.0\.weight"):
        given(other, "teacher", 0, prepared)
    whole = section.model_copy(update={"weights": str(tmp_path / "teacher-0/model.pt")})
    with pytest.raises(
        UsageError, match=r"is a model\.pt of modelopt, which says itself what model it is; write teach"
    ):
        given(whole, "teacher", 0, prepared)


def test_files_that_are_no_teachers(tmp_path: Path) -> None:
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/hacked",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"modelopt": 1, "model": Evil()}))
    (tmp_path / "broken.pt").write_bytes(b"not a model")
    for name, error in (("evil.pt", RefusedError), ("broken.pt", InputError), ("no.pt", InputError)):
        for section in ({"path": name}, {"model": MLP, "weights": name}):
            section = {key: str(tmp_path / value) if value == name else value for key, value in section.items()}
            with pytest.raises(error):
                distill.run(student({"type": "iris"}, distillation={"teacher": section}), Context())
    assert not (tmp_path / "hacked").exists()


CODE = """
import torch
from torch import nn

def build(scale=1.0):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        module[2].weight *= scale
    return module

def wrong():
    return nn.Linear(4, 5)
"""


def test_a_teacher_of_the_users_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_teacher.py").write_text(CODE)
    file = tmp_path / "own.yaml"
    text = "data: {type: iris, splits: {validation: 0.2, test: 0.2, seed: 0}}\nmodel: {type: mlp, hidden: [4]}\n"
    text += (
        "training: {epochs: 2, batch_size: 16}\ndistillation: {teacher: {model: {type: python, target: 'TARGET'}}}\n"
    )
    file.write_text(text.replace("TARGET", "my_teacher:build"))
    report = distill.run(Experiment.load(file), Context())
    teacher = report.tables["learners"].records()[0]
    assert teacher["learner"] == "teacher"
    assert teacher["model.parameters"] == 4 * 16 + 16 + 16 * 3 + 3
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    test = data_cache.prepared_data(Experiment.load(file)).test
    assert test is not None
    predicted = module(torch.from_numpy(test.inputs)).argmax(1).numpy()
    assert teacher["test.accuracy"] == pytest.approx(float((predicted == test.targets).mean()))
    file.write_text(text.replace("TARGET", "my_teacher:wrong"))
    with pytest.raises(UsageError, match=r"5"):
        distill.run(Experiment.load(file), Context())


def test_estimators_have_no_device_and_no_parameters() -> None:
    from sklearn.tree import DecisionTreeClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = EstimatorModule(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1]), "classification", 2)
        outputs = tree.to("cpu").eval()(torch.tensor([[0.0], [1.0]]))
    assert not list(tree.parameters())
    assert outputs.exp().round(decimals=5).tolist() == [[1.0, 0.0], [0.0, 1.0]]
