"""torchao as it is installed: imported without what it prints, and asked for what its version has."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.extras import require

EXTRA = "torchao"


def imported() -> Any:
    """torchao.quantization; with it torch knows torchao's operators."""
    from modelopt_cli.models.graph.capture import quiet

    with quiet():  # it logs which of its kernels for GPUs do not load
        import torchao.quantization
    return torchao.quantization


def configuration(name: str) -> Any:
    """What torchao is told to do, by the name of its class. Raises MissingExtraError, UsageError."""
    require("torchao", EXTRA)
    made = getattr(imported(), name, None)
    if made is None:
        raise UsageError(
            f"torchao {version('torchao')}, which is installed, has no {name}; install a newer one with: "
            f"pip install -U 'modelopt-cli[{EXTRA}]', or use quantization.method: dynamic"
        )
    quiet_settings = {"set_inductor_config": False}  # else it changes settings of torch for the whole process
    known = inspect.signature(made).parameters
    return made(**{name: value for name, value in quiet_settings.items() if name in known})
