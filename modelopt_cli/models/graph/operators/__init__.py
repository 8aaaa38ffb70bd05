"""What each operator does to axes: one module a kind, a rule and its rewriter side by side."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelopt_cli.models.graph.call import Operator


@cache
def operators() -> dict[Any, Operator]:
    """Every overload that has a rule of its own. Elementwise operators that torch tags as such need none."""
    known: dict[Any, Operator] = {}
    for module in pkgutil.iter_modules(__path__):
        known |= importlib.import_module(f"{__name__}.{module.name}").OPERATORS
    return known


def operator_of(target: Any) -> Operator | None:
    """The operator called `target`; None for an unknown one."""
    from modelopt_cli.models.graph.operators.elementwise import ELEMENTWISE, is_elementwise

    operator = operators().get(target)
    return ELEMENTWISE if operator is None and is_elementwise(target) else operator
