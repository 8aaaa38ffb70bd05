"""Every error has the exit code that the tree in core/errors.py draws, and goes through a pipe whole."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.core import errors
from modelopt_cli.core.errors import (
    InterruptedRunError,
    MissingExtraError,
    ModeloptError,
    TrialError,
    did_you_mean,
)

DRAWN = {name: int(code) for name, code in re.findall(r"(\w+Error)\s+(\d+)\s", errors.__doc__ or "")}


def kinds(of: type[ModeloptError] = ModeloptError) -> list[type[ModeloptError]]:
    own = [kind for kind in of.__subclasses__() if kind.__module__ == errors.__name__]
    return [of, *(each for kind in own for each in kinds(kind))]


def made(kind: type[ModeloptError]) -> ModeloptError:
    if kind is TrialError:
        return TrialError("memory", "why")
    return MissingExtraError("onnx", "onnx") if kind is MissingExtraError else kind("why")


def test_the_drawn_tree_is_the_one_that_there_is() -> None:
    assert {kind.__name__: made(kind).exit_code for kind in kinds()} == DRAWN


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind is not MissingExtraError], ids=lambda k: k.__name__)
def test_errors_survive_being_sent_to_another_process(kind: type[ModeloptError]) -> None:
    again = pickle.loads(pickle.dumps(made(kind)))
    assert (type(again), str(again), again.exit_code) == (kind, "why", made(kind).exit_code)


@given(st.integers(1, 64))
def test_an_interruption_ends_as_the_signal_does(number: int) -> None:
    assert InterruptedRunError("stopped", number).exit_code == 128 + number


def test_a_missing_package_names_the_extra() -> None:
    assert "pip install 'modelopt-cli[onnx]'" in str(MissingExtraError("onnx", "onnx"))


def test_the_nearest_option_is_suggested() -> None:
    assert did_you_mean("learning_rat", ["learning_rate", "momentum"]) == " Did you mean 'learning_rate'?"
    assert did_you_mean("xyz", ["learning_rate", "momentum"]) == ""
