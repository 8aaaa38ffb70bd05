"""torch's table of ONNX operators, read once.

torch.onnx.export makes it anew at each call, from the source of every operator that onnxscript has: most of the time
that the export of a small model takes. A search writes many such files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_READER = "from_torchlib"


@contextmanager
def read_once() -> Iterator[None]:
    """Within it exports share the table; with a torch that keeps it elsewhere, each reads its own."""
    registry = _registry()
    own = vars(registry).get(_READER) if registry is not None else None
    if own is None:
        yield
        return
    setattr(registry, _READER, staticmethod(_shared(registry)))
    try:
        yield
    finally:
        setattr(registry, _READER, own)


def _registry() -> Any:
    """torch's class of such tables; None: it has none of that name."""
    try:
        from torch.onnx._internal.exporter import _registration
    except ImportError:
        return None
    return getattr(_registration, "ONNXRegistry", None)


@cache
def _shared(registry: Any) -> Any:
    """What reads a table, each once."""
    return cache(getattr(registry, _READER))
