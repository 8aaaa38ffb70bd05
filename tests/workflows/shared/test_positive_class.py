"""`data.positive`: the class that binary metrics are about is chosen, named in reports, and kept with the model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli import distill, evaluate, load, predict, prune, train, tune
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.data.positive import left_to_the_alphabet

LEFT = "the positive class of recall_binary, precision_binary and f1_binary is 'stays', the last one in the alphabet"
SPLITS = {"validation": 0.2, "test": 0.2, "seed": 0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw = random.Random(0)
    rows = [(draw.gauss(0, 1), draw.gauss(0, 1), draw.gauss(0, 1)) for _ in range(300)]
    lines = [f"{a:.3f},{b:.3f},{'churned' if a + 0.5 * b + c > 1 else 'stays'}" for a, b, c in rows]
    (tmp_path / "churn.csv").write_text("\n".join(["a,b,churn", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(**data: Any) -> dict[str, Any]:
    return {
        "data": {"type": "csv", "path": "churn.csv", "target": "churn", "splits": SPLITS, **data},
        "model": {"type": "sklearn", "estimator": "sklearn.linear_model.LogisticRegression"},
    }


def test_the_positive_class_is_chosen_named_and_kept(folder: Path) -> None:
    import pandas as pd
    from sklearn.metrics import precision_score, recall_score

    left = train(load(document()))
    assert [text for text in left.warnings if text.startswith(LEFT)]
    assert left.details["positive_class"] == "stays"
    report = train(load(document(positive="churned")), folder / "run")
    assert report.warnings == []
    assert report.details["positive_class"] == "churned"
    assert report.metrics["test.accuracy"] == left.metrics["test.accuracy"]
    assert report.metrics["test.recall_binary"] != left.metrics["test.recall_binary"]
    again = evaluate(folder / "run/model.pt", "test")
    assert again.details["positive_class"] == "churned"
    assert again.metrics["test.recall_binary"] == report.metrics["test.recall_binary"]
    table = predict(folder / "run/model.pt", "churn.csv")
    assert table.columns == ["label", "probability_stays", "probability_churned"]
    truth, said = pd.read_csv("churn.csv")["churn"], [row[0] for row in table.rows]
    whole = evaluate(folder / "run/model.pt", data="churn.csv").metrics
    assert whole["data.recall_binary"] == pytest.approx(recall_score(truth, said, pos_label="churned"))
    assert whole["data.precision_binary"] == pytest.approx(precision_score(truth, said, pos_label="churned"))


def test_every_workflow_names_it(folder: Path) -> None:
    torch = {
        **document(positive="churned"),
        "model": {"type": "mlp", "hidden": [4]},
        "training": {"epochs": 1, "batch_size": 64},
    }
    search = {"objective": "maximize validation.recall_binary", "sampler": "grid", "executor": "serial"}
    taught = {"teacher": {"model": document()["model"]}, "losses": ["soft_targets"]}
    reports = [
        tune(load({**torch, "tuning": {**search, "space": {"training.batch_size": [32, 64]}}})),
        prune(load({**torch, "pruning": {"amount": 0.5}})),
        distill(load({**torch, "distillation": taught})),
        train(load({**torch, "seeds": 2})),
    ]
    assert [report.details["positive_class"] for report in reports] == ["churned"] * 4


def test_a_teacher_with_another_positive_class_is_refused(folder: Path) -> None:
    train(load(document()), folder / "teacher")
    section = {"teacher": str(folder / "teacher/model.pt"), "losses": ["soft_targets"]}
    student = {"model": {"type": "mlp"}, "training": {"epochs": 1}, "distillation": section}
    distill(load({**document(), **student}))
    with pytest.raises(UsageError, match="the labels in another order"):
        distill(load({**document(positive="churned"), **student}))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (
            {"positive": "chured"},
            r"'chured', which is no class .* Did you mean 'churned'\?.*: churned, stays",
        ),
        ({"positive": "1", "target": "a"}, "is '1', but the task is regression"),
        ({"type": "iris", "positive": "setosa"}, r"but the target has 3 classes \(setosa, .*\), not two"),
    ],
)
def test_what_is_no_positive_class_is_refused(folder: Path, data: dict[str, Any], rule: str) -> None:
    own = document(**data)
    if "type" in data:
        own["data"] = {**data, "splits": SPLITS}
    with pytest.raises(InputError, match=rule):
        train(load(own))


@pytest.mark.parametrize("value", ["yes", "'yes'", "1", "1.0", "true"])
def test_labels_are_compared_as_texts(folder: Path, value: str) -> None:
    """Whatever YAML makes of it."""
    text = value.strip("'").removesuffix(".0")
    other = {"yes": "no", "1": "0", "true": "false"}[text]
    lines = [f"{number % 7},{text if number % 3 else other}" for number in range(60)]
    Path("other.csv").write_text("\n".join(["a,y", *lines]) + "\n")
    Path("e.yaml").write_text(
        f"version: 1\ndata: {{type: csv, path: other.csv, target: y, positive: {value}}}\n"
        "model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier}\n"
    )
    assert train(load("e.yaml")).details["positive_class"].lower() == text


def test_numbers_truths_and_an_order_of_the_data_s_own_need_no_warning() -> None:
    for labels in (("0", "1"), ("-1", "1"), ("False", "True"), ("malignant", "benign"), ("a", "b", "c")):
        assert left_to_the_alphabet(labels, None) == ""
    assert left_to_the_alphabet(("no", "yes"), None)
    assert left_to_the_alphabet(("no", "yes"), "yes") == ""
