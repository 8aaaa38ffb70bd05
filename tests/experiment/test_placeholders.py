"""Placeholders of a command: values, null, conditions, braces."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.core.errors import ExperimentError
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.placeholders import filled


@pytest.mark.parametrize(
    ("words", "values", "expected"),
    [
        (["a", "--name={n}", "{f}", "{s}"], {"n": "a b;c", "f": True, "s": [1]}, ["a", "--name=a b;c", "true", "[1]"]),
        (["a", "{n}"], {"n": ""}, ["a", ""]),
        (["a", "{{{n}}}", "{{n}}"], {"n": 1}, ["a", "{1}", "{n}"]),
        # null leaves the word out, and the option before it
        (["a", "--clip={c}", "x"], {"c": None}, ["a", "x"]),
        (["a", "--clip", "{c}", "x"], {"c": None}, ["a", "x"]),
        (["a", "-c", "{c}"], {"c": None}, ["a"]),
        (["a", "--clip", "{c}"], {"c": 0.5}, ["a", "--clip", "0.5"]),
        (["a", "{b}-{c}", "x"], {"b": 1, "c": None}, ["a", "x"]),
        # ... but only an option that waits for a value
        (["a", "--lr=1", "{c}"], {"c": None}, ["a", "--lr=1"]),
        (["a", "--", "{c}"], {"c": None}, ["a", "--"]),
        (["a", "-", "{c}"], {"c": None}, ["a", "-"]),
        (["a", "-1", "{c}"], {"c": None}, ["a", "-1"]),
        (["a", "sub", "{c}"], {"c": None}, ["a", "sub"]),
        (["--a", "{c}"], {"c": None}, ["--a"]),  # the program itself
        (["a", "--{b}", "{c}"], {"b": "x", "c": None}, ["a", "--x"]),
        (["a", "--x", "p{c}"], {"c": None}, ["a", "--x"]),
        # conditions
        (["a", "{n?--nesterov}", "x"], {"n": True}, ["a", "--nesterov", "x"]),
        (["a", "{n?--nesterov}", "x"], {"n": False}, ["a", "x"]),
        (["a", "--x", "{n?--nesterov}"], {"n": None}, ["a", "--x"]),
        (["a", "{n?--amp|--no-amp}"], {"n": False}, ["a", "--no-amp"]),
        (["a", "{n?|--no-amp}"], {"n": True}, ["a"]),
        (["a", "{n?--device cuda:0|--device cpu}"], {"n": True}, ["a", "--device", "cuda:0"]),
        (["a", "--mode={n?fast|slow but sure}"], {"n": False}, ["a", "--mode=slow but sure"]),
        (["a", "x{n?y}"], {"n": False}, ["a", "x"]),
    ],
)
def test_filled(words: list[str], values: dict[str, Any], expected: list[str]) -> None:
    assert filled(words, values) == expected


@given(st.lists(st.text(), min_size=1))
def test_braces_are_written_twice(texts: list[str]) -> None:
    assert filled([text.replace("{", "{{").replace("}", "}}") for text in texts], {}) == texts


@pytest.mark.slow
@given(st.text(), st.text())
def test_a_value_stays_one_word(before: str, value: str) -> None:
    word = before.replace("{", "{{").replace("}", "}}") + "{name}"
    assert filled(["a", word], {"name": value}) == ["a", before + value]


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (
            {"argv": ["a", "{lr?--x}"], "parameters": {"lr": 0.1}},
            "argv asks whether 'lr' is true .* but it is 0.1; make",
        ),
        ({"argv": ["a", "{lr?--x}"], "parameters": {"lr": "true"}}, "it is 'true'; make it true or false"),
        ({"argv": ["a", "{trial_dir?--x}"]}, "it is a folder"),
        ({"argv": ["a", "{lr?}"], "parameters": {"lr": True}}, "must name the words for true"),
        ({"argv": ["a", "{lr?|}"], "parameters": {"lr": True}}, "must name the words for true"),
        ({"argv": ["a", "{lr?a|b|c}"], "parameters": {"lr": True}}, "must name the words for true"),
        ({"argv": ["a", "{?--x}"], "parameters": {"lr": True}}, "is no plain name"),
        ({"argv": ["a", "{lrr?--x}"], "parameters": {"lr": True}}, "parameters has no 'lrr' .* Did you mean 'lr'"),
        ({"argv": ["{p}"], "parameters": {"p": None}}, "begins with '{p}', which comes to nothing here"),
        ({"argv": ["a"], "parameters": {"trial_dir": 1}}, "'trial_dir' stands for a folder of the trial's own"),
    ],
)
def test_what_is_refused(command: dict[str, Any], rule: str) -> None:
    with pytest.raises(ExperimentError, match=rule):
        Experiment.load({"command": command})


def test_the_searched_values_of_a_condition_are_true_and_false() -> None:
    file: dict[str, Any] = {
        "command": {"argv": ["a", "{fast?--fast}"], "parameters": {"fast": False}},
        "tuning": {
            "workflow": "command",
            "objective": "minimize loss",
            "space": {"command.parameters.fast": [True, False, None]},
        },
    }
    Experiment.load(file)
    file["tuning"]["space"] = {"command.parameters.fast": ["yes", "no"]}
    with pytest.raises(ExperimentError, match=r"asks whether 'fast' is true .* but it is 'yes'"):
        Experiment.load(file)
