"""The product's own transformer: its positions are spared, and everything that watches inputs works on the rest."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli import load, prune

DATA = {"type": "digits", "shape": "image", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}}
MODEL = {"type": "transformer", "width": 16, "depth": 1, "heads": 2, "feedforward": 2, "patch": 4}


def pruned(**pruning: Any) -> Any:
    experiment = {"version": 1, "data": DATA, "model": MODEL, "training": {"epochs": 1}, "pruning": pruning}
    return prune(load(experiment))


def test_positions_are_spared() -> None:
    report = pruned(amount=0.5)
    table = report.tables["layers"]
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["positions"]["spared"] == "its name says position"
    assert rows["positions"]["zeroed"] == 0
    assert rows["layers.0.self_attn.in_proj_weight"]["zeroed"] > 0
    assert report.warnings == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        {"importance": "wanda"},
        {"importance": "obs"},
        {"importance": "sparsegpt", "compensation": "sparsegpt"},
        {"compensation": "least_squares"},
        {"compensation": "bias"},
        {"importance": "grasp"},
        {"importance": "wanda", "structure": {"type": "nm", "n": 2, "m": 4}},
    ],
    ids=str,
)
def test_what_looks_at_inputs_or_second_derivatives_works_on_it(parts: dict[str, Any]) -> None:
    amount = {} if "structure" in parts else {"amount": 0.5}
    assert pruned(**amount, **parts).metrics["pruning.sparsity"] == pytest.approx(0.5, abs=1e-3)
