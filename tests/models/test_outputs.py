"""Modules that return a dictionary, a tuple or an object: understood where there is no doubt, else told."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modelopt_cli import distill, load, train
from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.outputs import chosen, one_tensor

LOGITS, OTHER = torch.zeros(2, 3), torch.ones(2, 7)
Pair = namedtuple("Pair", ["logits", "hidden"])
TEACHER = """\
from types import SimpleNamespace
from torch import nn


class Named(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.net, self.form = nn.Linear(64, 10), form

    def forward(self, x):
        logits = self.net(x)
        return {
            "dict": {"logits": logits, "hidden": x},
            "tuple": (logits,),
            "object": SimpleNamespace(logits=logits, hidden=x),
            "doubt": (logits, x),
        }[self.form]
"""


@pytest.mark.parametrize(
    "outputs",
    [
        {"logits": LOGITS, "hidden": OTHER},
        {"only": LOGITS},
        {"predictions": LOGITS, "features": OTHER},
        OrderedDict(loss=None, logits=LOGITS, attentions=(OTHER,)),
        (LOGITS,),
        [LOGITS],
        (LOGITS, None, {"a": OTHER}),
        Pair(LOGITS, OTHER),
        SimpleNamespace(logits=LOGITS, hidden=OTHER),
        SimpleNamespace(out=LOGITS),
    ],
    ids=repr,
)
def test_the_logits_are_found(outputs: Any) -> None:
    assert chosen(outputs, "Net") is LOGITS


@pytest.mark.parametrize("outputs", [(LOGITS, OTHER), {"a": LOGITS, "b": OTHER}, None, {}, "text", 3.0], ids=repr)
def test_doubt_is_told(outputs: Any) -> None:
    with pytest.raises(UsageError, match=r"Net returns .* under the name logits"):
        chosen(outputs, "Net")


class Dictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.net(inputs)}


def test_a_module_gives_one_tensor_also_as_a_copy_a_pickle_and_a_program() -> None:
    dictionary, inputs = Dictionary(), torch.randn(5, 4)
    module = one_tensor(one_tensor(dictionary)).eval()
    expected = dictionary.net(inputs)
    assert torch.equal(module(inputs), expected)
    assert len(module._forward_hooks) == 1
    assert torch.equal(copy.deepcopy(module)(inputs), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(inputs), expected)
    assert list(module.state_dict()) == ["net.weight", "net.bias"], "as the user's own"
    program = torch.export.export(module, (inputs,)).module()(inputs)
    program = program["logits"] if isinstance(program, dict) else program
    assert torch.allclose(program, expected)


def experiment(form: str, role: str) -> dict[str, Any]:
    python = {"type": "python", "target": "my_teacher:Named", "arguments": {"form": form}}
    common: dict[str, Any] = {"data": {"type": "digits"}, "training": {"epochs": 1}}
    if role == "model":
        return {**common, "model": python}
    return {**common, "model": {"type": "mlp", "hidden": [8]}, "distillation": {"teacher": {"model": python}}}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dict", "tuple", "object"])
@pytest.mark.parametrize("role", ["model", "teacher"])
def test_models_and_teachers(form: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_teacher.py").write_text(TEACHER)
    run = train if role == "model" else distill
    assert run(load(experiment(form, role))).status == "completed"


@pytest.mark.parametrize("role", ["model", "teacher"])
def test_doubt_is_one_error(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_teacher.py").write_text(TEACHER)
    run = train if role == "model" else distill
    with pytest.raises(UsageError, match="Named returns tuple with 0, 1"):
        run(load(experiment("doubt", role)))


def test_a_regression_learns_from_its_teacher_by_losses_that_fit() -> None:
    report = distill(
        load(
            {
                "data": {"type": "diabetes"},
                "model": {"type": "mlp", "hidden": [8]},
                "training": {"epochs": 1},
                "distillation": {"teacher": {"model": {"type": "mlp", "hidden": [8]}, "training": {"epochs": 1}}},
            }
        )
    )
    assert report.status == "completed"


@pytest.mark.slow
def test_losses_that_were_left_out_stay_so_in_a_runs_files(tmp_path: Path) -> None:
    """Written out, the default would be one that a regression refuses."""
    given: dict[str, Any] = {
        "data": {"type": "diabetes"},
        "model": {"type": "mlp", "hidden": [4]},
        "training": {"epochs": 1},
        "distillation": {"teacher": {"model": {"type": "mlp", "hidden": [4]}, "training": {"epochs": 1}}},
    }
    report = distill(load(given), tmp_path / "run")
    again = load(tmp_path / "run/experiment.yaml")
    assert again == load(given)
    assert distill(again).metrics["test.rmse"] == report.metrics["test.rmse"]
    written = {**given["distillation"], "losses": [{"type": "labels", "weight": 0.1}, {"type": "soft_targets"}]}
    with pytest.raises(UsageError, match="use mse"):
        distill(load({**given, "distillation": written}))
