"""The `command` section: placeholders, parameters and braces."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.experiment.experiment import Experiment


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
