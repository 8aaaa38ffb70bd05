"""Compiling in bounded time: what comes out answers as the module does, and what does not work is a reason."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models import compiling
from modelopt_cli.models.compiling import _TimeIsUp, _within, compiled_for


def busy() -> None:
    while True:
        pass


def test_what_takes_too_long_is_broken_off_and_nothing_comes_after_it() -> None:
    with pytest.raises(_TimeIsUp), _within(0.01):
        busy()
    with _within(1e-6):
        pass  # the time is up at once; either it is over before, or it is broken off here
    for _ in range(1000):
        assert True, "no exception is left over"


@pytest.mark.slow
def test_too_long_and_switched_off_are_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config

    def compile_for_ever(*_: object, **__: object) -> object:
        return lambda _: busy()

    monkeypatch.setattr(torch, "compile", compile_for_ever)
    with pytest.raises(UsageError, match=r"torch\.compile took longer than 0\.01 s"):
        compiled_for(nn.Linear(2, 2), torch.ones(1, 2), 0.01)
    with config.patch(disable=True), pytest.raises(UsageError, match="switched off"):
        compiled_for(nn.Linear(2, 2), torch.ones(1, 2), 1.0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and there is no g++")
def test_it_answers_as_the_module_does() -> None:
    class Failing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise RuntimeError("no such thing")

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).eval()
    inputs = torch.randn(5, 4)
    try:
        with torch.inference_mode():
            fast = compiled_for(module, inputs, 300.0)
            torch.testing.assert_close(fast(inputs), module(inputs))
            with pytest.raises(UsageError, match=r"torch\.compile does not work for it: RuntimeError: no such thing"):
                compiled_for(Failing(), inputs, 300.0)
    finally:
        compiling.forget()
