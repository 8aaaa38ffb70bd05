"""Many like pieces of work on tensors, several at a time: a thread a core, each with one of torch's own threads.

Torch's threads wait for each other after every step, which costs much in small steps, and very much where others use
the machine as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(work: Callable[[str], T], keys: Sequence[str]) -> Iterator[T]:
    """`work` of each key, in their order; a few of them wait, made, for the caller."""
    if len(keys) == 1:
        yield work(keys[0])
        return
    import torch

    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(cores) as pool:
            waiting: deque[Future[T]] = deque()
            for key in keys:
                waiting.append(pool.submit(work, key))
                if len(waiting) > 2 * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(cores)
