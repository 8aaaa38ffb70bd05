"""How long models take: who is run when, on which threads, and what is said of it, on a fake clock."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from modelopt_cli.models import latency as measured


class Counting(nn.Module):
    """Writes down its name, its batch and how it is called; takes `ticks` of the fake clock."""

    def __init__(
        self, name: str, log: list[tuple[str, int, int]], ticks: int = 0, clock: list[float] | None = None
    ) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5)
        self.name, self.log, self.ticks, self.clock = name, log, ticks, clock

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert not self.inner.training
        assert torch.is_inference_mode_enabled()
        self.log.append((self.name, len(inputs), torch.get_num_threads()))
        if self.clock is not None:
            self.clock[0] += self.ticks / 1000.0
        return inputs


def test_contenders_take_turns_on_a_fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, int, int]] = []
    clock = [0.0]
    monkeypatch.setattr(measured, "perf_counter", lambda: clock[0])
    slow, fast = Counting("slow", log, 6, clock).train(), Counting("fast", log, 2, clock).train()
    threads = torch.get_num_threads()
    times = measured.latency({"slow": slow, "fast": fast}, torch.randn(2, 3), (1, 5), threads=1, runs=20, seconds=1.0)
    assert torch.get_num_threads() == threads
    assert slow.training
    assert slow.inner.training
    turns = ["slow", "fast", "fast", "slow"]
    assert [name for name, _, _ in log] == turns * (len(log) // 4)
    assert {pinned for _, _, pinned in log} == {1}
    assert [size for size, _ in itertools.groupby(size for _, size, _ in log)] == [1, 5]
    assert [(one.name, one.batch_size, one.threads, one.device) for one in times] == [
        (name, size, 1, "cpu") for size in (1, 5) for name in ("slow", "fast")
    ]
    assert len(log) == 2 * 2 * (10 + 20), "warm-up is not measured"
    for one, milliseconds in zip(times, (6, 2) * 2, strict=True):
        np.testing.assert_allclose(one.times, [milliseconds] * 20)
        np.testing.assert_allclose(one.samples_per_second, 1000 * one.batch_size / milliseconds)
    np.testing.assert_allclose(times[0].relative_to(times[1]), 3.0)


def test_the_seconds_end_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, int, int]] = []
    clock = [0.0]
    monkeypatch.setattr(measured, "perf_counter", lambda: clock[0])
    module = Counting("it", log, 100, clock)
    (enough,) = measured.latency({"it": module}, torch.randn(1, 3), (1,), seconds=0.95)
    (slow,) = measured.latency({"it": module}, torch.randn(1, 3), (1,), seconds=0.0)
    assert len(enough.times) == 10
    assert len(slow.times) == 3, "a few at least, however slow"


def test_median_spread_and_ratio() -> None:
    one = measured.Latency("a", 4, 1, "cpu", (1.0, 2.0, 3.0, 4.0, 50.0))
    other = measured.Latency("b", 4, 1, "cpu", (2.0, 4.0, 6.0, 8.0, 1.0))
    assert (one.median, one.spread, one.samples_per_second) == (3.0, (2.0, 4.0), 4000 / 3)
    assert one.relative_to(other) == 0.5, "paired by turn"
