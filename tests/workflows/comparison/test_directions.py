"""Which way is better, for every metric that a run of modelopt can report."""

from __future__ import annotations

import pytest

from modelopt_cli.core.conditions import Goal
from modelopt_cli.workflows.comparison.directions import higher_is_better

HIGHER = (
    "test.accuracy validation.f1_binary test.r2 test.roc_auc test.precision_weighted test.gap_closed data.recall acc"
)
LOWER = (
    "test.loss validation.log_loss test.rmse test.mae loss train.seconds seconds model.parameters model.size_bytes "
    "model.latency_ms model.latency_ms_64 model.macs test.accuracy_drop test.loss_rise my_loss train.peak_bytes"
)
UNKNOWN = "train.epochs train.samples model.sparsity bleu pruning.units_removed"


@pytest.mark.parametrize(
    ("names", "higher"), [(HIGHER, True), (LOWER, False), (UNKNOWN, None)], ids=["higher", "lower", "unknown"]
)
def test_directions(names: str, higher: bool | None) -> None:
    assert {name: higher_is_better(name) for name in names.split()} == dict.fromkeys(names.split(), higher)


def test_an_objective_decides() -> None:
    goals = [Goal("bleu", maximize=True), Goal("accuracy", maximize=False)]
    assert higher_is_better("bleu", goals) is True
    assert higher_is_better("accuracy", goals) is False
