"""How long what was read stays in memory: as long as the run that read it.

Files, functions and modules may have changed by the next run in the same process (a notebook's), so nothing is handed
on from one to the other. A worker process serves one run and keeps what it has read until it ends.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelopt_cli.core import imports

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.data.raw import RawData
    from modelopt_cli.data.splits import SplitIndices


@dataclass
class Kept:
    """What a run has read and prepared, by the sections that it came from."""

    raw: OrderedDict[str, RawData] = field(default_factory=OrderedDict)
    prepared: OrderedDict[str, Prepared] = field(default_factory=OrderedDict)
    splits: OrderedDict[str, SplitIndices] = field(default_factory=OrderedDict)
    folds: OrderedDict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=OrderedDict)


_run: ContextVar[Kept | None] = ContextVar("run", default=None)
_process = Kept()  # outside of any run: a worker process's


@contextmanager
def one_run() -> Iterator[None]:
    """Within it data are read once; before it begins, the user's modules that have changed are unloaded.

    A run within a run (one of several seeds, the best model's training) shares what the outer one has read.
    """
    if _run.get() is not None:
        yield
        return
    imports.forget_changed()
    before = frozenset(sys.modules)
    token = _run.set(Kept())
    try:
        yield
    finally:
        _run.reset(token)
        imports.remember_sources(before)
        _forget_teacher_outputs()


def kept() -> Kept:
    """What the run under way has read."""
    return _run.get() or _process


def _forget_teacher_outputs() -> None:
    """A teacher's answers are kept by its weights and form, but the code behind them may change as well."""
    cache = sys.modules.get("modelopt_cli.distillation.cache")
    if cache is not None:
        cache.MEMORY.clear()
