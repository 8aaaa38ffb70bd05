"""How far a long piece of work has come, told from deep inside by what does it; and when it is to be given up.

Whoever starts the work listens (`listening`). What takes long (batches, files, layers, cuts on trial) counts as it goes
on (`counted`, `tell`), without knowing who listens. Where nobody does, as in a worker process, counting costs next to
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from modelopt_cli.core.processes.interrupts import Leave

T = TypeVar("T")
Listener = Callable[[str, int, int | None], None]
"""Takes what is counted, how many are done, and of how many (None: unknown). May raise GivenUp."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class GivenUp(Leave):
    """The user asked for an end, and the work was left in the middle: what it had begun is lost, nothing else is."""


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """`listener` is told of all work that is done within, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(what: str, done: int, of: int | None = None) -> None:
    """So many of `what` ("batches") are done. Raises GivenUp where whoever listens wants the work to end here."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, of)


def counted(items: Iterable[T], what: str, of: int | None = None) -> Iterator[T]:
    """The items, one by one; each is told of when the next one is asked for. `of`: how many, where they have no len."""
    if of is None and isinstance(items, Sized):
        of = len(items)
    done = 0
    for item in items:
        tell(what, done, of)
        yield item
        done += 1
    tell(what, done, of)
