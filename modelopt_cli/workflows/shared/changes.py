"""A model against another one, metric by metric: what it does worse, and which share of a cost is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelopt_cli.experiment.expected_metrics import CHANGES, RATIO
from modelopt_cli.training.metrics.names import LOWER_IS_BETTER


def changes(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """`test.accuracy_drop`, `test.loss_rise` and so on, of each metric that both have; below 0: it got better.

    >>> changes({"test.accuracy": 0.5, "test.loss": 1.0}, {"test.accuracy": 0.75, "test.loss": 0.5})
    {'test.accuracy_drop': 0.25, 'test.loss_rise': 0.5}
    """
    changed = {}
    for name, value in now.items():
        if name in before:
            lower = name.rpartition(".")[2] in LOWER_IS_BETTER
            changed[name + CHANGES[lower]] = value - before[name] if lower else before[name] - value
    return changed


def ratios(after: Mapping[str, float], before: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """`model.nonzero_ratio` and the like: the share that is left of each that was something, and is known."""
    return {name + RATIO: after[name] / before[name] for name in names if name in after and before.get(name)}
