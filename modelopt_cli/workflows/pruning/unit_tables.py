"""Tables of a pruning of units: the model at its stages, and its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.report import Table
from modelopt_cli.workflows.shared.module_of_file import shape_text

if TYPE_CHECKING:
    from torch import nn


def stages(
    module: nn.Module, judged: Mapping[str, Mapping[str, float]], states: Mapping[str, Mapping[str, Any] | None]
) -> Table:
    """A row a turn that was judged: its metrics and its parameters."""
    names = {name for name, _ in module.named_parameters()}
    rows = []
    for stage, found in judged.items():
        if found:
            kept = states[stage]
            state = module.state_dict() if kept is None else kept["state"]
            count = sum(tensor.numel() for name, tensor in state.items() if name in names)
            rows.append({"stage": stage, **found, "model.parameters": count})
    return Table.from_records(rows)


def layers(before: nn.Module, after: nn.Module) -> Table:
    """A row for each parameter: its shape before and after."""
    now = dict(after.named_parameters())
    rows: list[list[Any]] = []
    for name, parameter in before.named_parameters():
        new = now.get(name)
        count = 0 if new is None else new.numel()
        rows.append(
            [
                name,
                shape_text(parameter),
                None if new is None else shape_text(new),
                count,
                1 - count / parameter.numel(),
            ]
        )
    return Table(columns=["tensor", "shape before", "shape", "weights", "share removed"], rows=rows)
