"""modelopt: tune, prune and distill models from one YAML file.

The Python face; everything is imported on first use, so that the command line starts fast:

    from modelopt_cli import load, train, tune, prune, distill, pick, shrink, evaluate, predict, compare, Study
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelopt_cli.api import (
        Experiment,
        Report,
        Shrunk,
        Study,
        Trial,
        compare,
        compress,
        distill,
        evaluate,
        load,
        pick,
        predict,
        prune,
        shrink,
        train,
        tune,
    )

__all__ = [
    "Experiment",
    "Report",
    "Shrunk",
    "Study",
    "Trial",
    "__version__",
    "compare",
    "compress",
    "distill",
    "evaluate",
    "load",
    "pick",
    "predict",
    "prune",
    "shrink",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("modelopt-cli")
    if name in __all__:
        return getattr(importlib.import_module("modelopt_cli.api"), name)
    raise AttributeError(f"module 'modelopt_cli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
