"""For all tests: one thread of torch, its generator seeded, and no examples of Hypothesis against the clock.

The tests' tensors are tiny, and threads that wait for each other are slow on shared cores. Machines are noisy. A test
that takes weights as torch draws them shall not depend on which tests its process ran before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("modelopt", deadline=None)
settings.load_profile("modelopt")


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> Iterator[None]:
    torch = sys.modules.get("torch")  # a test that needs none shall not wait for its import
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
