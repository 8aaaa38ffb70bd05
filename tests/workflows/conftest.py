"""What the tests of distillations share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelopt_cli.distillation import cache
from modelopt_cli.workflows.shared import costs


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Latency is measured for an instant, and no teacher's outputs are left from another test."""
    monkeypatch.setattr(costs, "SECONDS", 0.01)
    cache.MEMORY.clear()
    yield
    cache.MEMORY.clear()
