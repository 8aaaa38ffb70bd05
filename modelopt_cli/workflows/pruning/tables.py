"""Tables of a pruning beside its stages: a row for each parameter, rounds, and the sensitivity that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.models.measure import zeros
from modelopt_cli.results.report import Cell, Table
from modelopt_cli.workflows.shared.module_of_file import shape_text

if TYPE_CHECKING:
    from torch import nn

    from modelopt_cli.pruning.allocations import Allocation


def masked_layers(module: nn.Module, before: Mapping[str, int], spared: Mapping[str, str]) -> Table:
    """A row a parameter; `before`: its zeros before pruning, `spared`: the rule that spares it."""
    rows: list[list[Cell]] = []
    for name, parameter in module.named_parameters():
        count, zero = parameter.numel(), zeros(parameter)
        sparsity = zero / max(count, 1)
        shape = shape_text(parameter)
        rows.append([name, shape, count, before[name], zero - before[name], sparsity, spared.get(name)])
    return Table(columns=["tensor", "shape", "weights", "zero before", "zeroed", "sparsity", "spared"], rows=rows)


def smaller_layers(before: nn.Module, after: nn.Module) -> Table:
    """A row a parameter: its shape before and after units were taken out."""
    now = dict(after.named_parameters())
    rows: list[list[Cell]] = []
    for name, parameter in before.named_parameters():
        left = now.get(name)
        count = 0 if left is None else left.numel()
        shape = None if left is None else shape_text(left)
        rows.append([name, shape_text(parameter), shape, count, 1 - count / parameter.numel()])
    return Table(columns=["tensor", "shape before", "shape", "weights", "share removed"], rows=rows)


def course_tables(
    rounds: Sequence[Mapping[str, Cell]],
    sensitivity: Sequence[tuple[str, float, float]],
    columns: tuple[str, str, str],
    allocation: Allocation | None,
) -> dict[str, Table]:
    """`rounds` and `sensitivity`, each where there is any.

    `columns`: of `sensitivity`, what was cut, how much of it, and the loss that was measured; an allocation that
    measures how far outputs diverge has that in the last column's place.
    """
    tables = {}
    if rounds:
        tables["rounds"] = Table.from_records(rounds)
    if sensitivity:
        rows: list[list[Cell]] = [list(row) for row in sensitivity]
        *cut, loss = columns
        figure = allocation.measured if allocation is not None else "loss"
        tables["sensitivity"] = Table(columns=[*cut, loss if figure == "loss" else figure], rows=rows)
    return tables
