"""For all tests: one thread of torch, and no examples of Hypothesis against the clock, as machines are noisy.

The tests' tensors are tiny, and threads that wait for each other are slow on shared cores.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("modelopt", deadline=None)
settings.load_profile("modelopt")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")  # a test that needs none shall not wait for its import
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
