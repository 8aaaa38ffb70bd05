"""A good experiment file, changes that make a bad one of it, and what is said then."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from modelopt_cli.core.errors import ModeloptError, UsageError
from modelopt_cli.experiment.experiment import Experiment

Mistake = tuple[tuple[str, str], str, str]
"""What the user changes (old text, new text), where the error points to, and what it says."""

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


def check_mistake(folder: Path, mistake: Mistake) -> None:
    """The error says what it should, in our words, and points to the line that was changed."""
    change, start, rule = mistake
    message = refusal(folder, change)
    assert rule in message
    problem = next(part for part in re.split(r"\n(?=x\.yaml:)", message) if rule in part)
    assert problem.startswith(start + ": ")
    assert "^" in problem
    assert "Input should be" not in message
    assert "pydantic" not in message


def outcome(load: Callable[[], Experiment]) -> tuple[Experiment | None, str]:
    """The experiment and no words, or none and our error's; any other error passes."""
    try:
        return load(), ""
    except ModeloptError as error:
        return None, str(error)
