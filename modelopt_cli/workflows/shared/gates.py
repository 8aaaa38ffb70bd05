"""Gates: what must hold for a run to pass, from the file and from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from modelopt_cli.core.conditions import Condition
from modelopt_cli.results.report import GateResult

if TYPE_CHECKING:
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.workflows.shared.context import Context


def conditions(experiment: Experiment | None, context: Context) -> list[Condition]:
    """The file's gates, where there is one, then the command line's, each once."""
    own = () if experiment is None else experiment.gates
    return list(dict.fromkeys([*(Condition.parse(gate) for gate in own), *context.gates]))


def judge(gates: Iterable[Condition], metrics: Mapping[str, float]) -> list[GateResult]:
    """Each gate against the metrics; a metric that is missing or NaN meets nothing."""
    return [
        GateResult(
            condition=str(gate), met=gate.met(metrics), value=metrics.get(gate.metric), margin=gate.margin(metrics)
        )
        for gate in gates
    ]
