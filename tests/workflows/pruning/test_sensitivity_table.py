"""What an allocation measured is kept as a table, named by what was measured; and what stands before and after."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli import load, prune

DOCUMENT: dict[str, Any] = {
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8, 8]},
    "training": {"epochs": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("structure", "allocation", "columns"),
    [
        ("weights", "sensitivity", ["tensor", "sparsity", "validation.loss"]),
        ("weights", "divergence", ["tensor", "sparsity", "divergence"]),
        ("neurons", "sensitivity", ["group", "share removed", "loss"]),
        ("neurons", "divergence", ["group", "share removed", "divergence"]),
    ],
)
def test_the_figures_are_called_what_they_are(structure: str, allocation: str, columns: list[str]) -> None:
    section = {"structure": structure, "amount": 0.5, "allocation": allocation, "recovery": {"epochs": 1}}
    report = prune(load({**DOCUMENT, "pruning": section}))
    table = report.tables["sensitivity"]
    assert table.columns == columns
    assert len({row[0] for row in table.rows}) > 1
    assert all(0.0 <= share <= 1.0 and figure >= 0.0 for _, share, figure in table.rows)  # type: ignore[operator]
    assert [row["stage"] for row in report.records("stages")] == ["before", "pruned", "final"]


def test_without_a_measuring_allocation_there_is_no_table() -> None:
    report = prune(load({**DOCUMENT, "pruning": {"amount": 0.5}}))
    assert "sensitivity" not in report.tables
    assert [row["stage"] for row in report.records("stages")] == ["before", "pruned", "final"]


_NM = {"type": "nm", "n": 2, "m": 4}  # says itself how much goes, so that there is one stage
_SCHEDULES = ("rounds", "cubic", "one_shot")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("structure", "schedule"),
    [(_NM, "one_shot"), *((structure, each) for structure in ("weights", "neurons", "block") for each in _SCHEDULES)],
)
def test_every_structure_and_schedule_has_the_state_straight_after_pruning(structure: Any, schedule: str) -> None:
    section: dict[str, Any] = {"structure": structure, "schedule": schedule, "recovery": {"epochs": 2}}
    if structure is not _NM:
        section["amount"] = 0.5
    report = prune(load({**DOCUMENT, "pruning": section}))
    assert [row["stage"] for row in report.records("stages")] == ["before", "pruned", "final"]
