"""From what may be left (a budget) to the share that must go."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from modelopt_cli.core.errors import UsageError

if TYPE_CHECKING:
    from modelopt_cli.pruning.settings import PruningSettings

_SLACK = 0.98  # of a budget of bytes is aimed at: values change in recovery, and so does what they compress to
_TRIES = 12
_SIZES = ("model.parameters", "model.nonzero", "model.size_bytes", "model.sparsity", "model.compressed_bytes")
_OTHERS = (*_SIZES, "pruning.sparsity", "train.seconds", "train.epochs")


def amount_for(settings: PruningSettings, prunable: int, total: int) -> float | None:
    """The share of what may go that goes at the end; None for a threshold or a fixed structure.

    `prunable` of the model's `total` parameters may become 0. For a budget of bytes a first guess. Raises UsageError
    for a budget below what may not go.
    """
    if settings.threshold is not None or settings.structure.fixed:
        return None
    if settings.budget is None:
        return settings.amount
    if settings.budget.nonzero is None:
        return 0.5
    left = settings.budget.left(total)
    if left < total - prunable:
        raise UsageError(
            f"pruning.budget.nonzero is {settings.budget.described(left)}, but {total - prunable:,} of the {total:,} "
            "parameters may not go; raise it, or let more go with pruning.include or all: true"
        )
    return min(1.0, max(0.0, (total - left) / prunable))


def search_amount(size: Callable[[float], int], budget: float, written: str = "") -> float:
    """The least share of weights whose removal brings the compressed size to the budget (bisection).

    `written`: the budget as the file has it. Raises UsageError when removing everything does not.
    """
    aim = budget * _SLACK
    if size(0.0) <= budget:
        return 0.0
    least = size(0.999)
    if least > aim:
        raise UsageError(
            f"pruning.budget.size_bytes is {written or f'{budget:,.0f}'}, but even with 99.9% of the weights gone the "
            f"compressed model takes {least:,} bytes; raise it, or use a smaller model"
        )
    low, high = 0.0, 0.999
    for _ in range(_TRIES):
        middle = (low + high) / 2
        low, high = (low, middle) if size(middle) <= aim else (middle, high)
    return high


def stand_ins(validation: Iterable[str]) -> dict[str, float]:
    """Numbers in place of the metrics that model.pt will hold, so that its size is known before they are.

    `validation`: the names of those on the validation split, which those on the test split follow.
    """
    own = list(validation)
    names = [*own, *(name.replace("validation.", "test.", 1) for name in own), *_OTHERS]
    return {name: math.sqrt(number) for number, name in enumerate(names, start=2)}
