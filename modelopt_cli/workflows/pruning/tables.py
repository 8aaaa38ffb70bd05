"""Tables of a pruning: the model at its turns, and its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.models.measure import zeros
from modelopt_cli.results.report import Table
from modelopt_cli.workflows.shared.module_of_file import shape_text

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYERS = ["tensor", "shape", "weights", "zero before", "zeroed", "sparsity", "spared"]


def layers(module: nn.Module, before: Mapping[str, int], spared: Mapping[str, str]) -> Table:
    """A row a parameter; `before`: its zeros before pruning, `spared`: the rule that spares it."""
    rows: list[list[Any]] = []
    for name, parameter in module.named_parameters():
        count, found = parameter.numel(), zeros(parameter)
        rows.append(
            [
                name,
                shape_text(parameter),
                count,
                before[name],
                found - before[name],
                found / max(count, 1),
                spared.get(name),
            ]
        )
    return Table(columns=LAYERS, rows=rows)


def stages(
    module: nn.Module, judged: Mapping[str, Mapping[str, float]], states: Mapping[str, Mapping[str, Tensor]]
) -> Table:
    """A row a turn that was judged: its metrics, and what of the parameters is not 0 in its state."""
    rows: list[dict[str, Any]] = []
    names = [name for name, _ in module.named_parameters()]
    for stage, metrics in judged.items():
        if metrics:
            kept = [states[stage][name] for name in names]
            count = sum(tensor.numel() for tensor in kept)
            nonzero = count - sum(map(zeros, kept))
            rows.append(
                {"stage": stage, **metrics, "model.nonzero": nonzero, "model.sparsity": 1.0 - nonzero / max(count, 1)}
            )
    return Table.from_records(rows)
