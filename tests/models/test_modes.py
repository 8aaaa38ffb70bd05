"""Evaluation mode for a while leaves every part of a module as it was."""

from __future__ import annotations

import pytest
from torch import nn

from modelopt_cli.models.modes import evaluating


def frozen() -> nn.Sequential:
    """In training, but for its batch normalisation."""
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    module[1].eval()
    return module


def modes(*modules: nn.Module) -> list[bool]:
    return [part.training for module in modules for part in module.modules()]


def test_parts_are_back_in_their_own_modes() -> None:
    first, second = frozen(), frozen().eval()
    before = modes(first, second)
    with evaluating(first, second):
        assert not any(modes(first, second))
    assert modes(first, second) == before == [True, True, False, True, *[False] * 4]


def test_parts_are_back_in_their_own_modes_after_an_error() -> None:
    module = frozen()
    with pytest.raises(ZeroDivisionError), evaluating(module):
        raise ZeroDivisionError
    assert modes(module) == [True, True, False, True]


class Told(nn.Linear):
    """Does more when its mode changes than set the flag."""

    def train(self, mode: bool = True) -> Told:
        self.last = mode
        super().train(mode)
        return self


def test_code_of_a_module_that_follows_its_mode_is_run() -> None:
    module = Told(2, 2)
    with evaluating(module):
        assert module.last is False
    assert module.last is True
