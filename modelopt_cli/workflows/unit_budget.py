"""Budgets of units: what a network may cost at the end, and on the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from modelopt_cli.models.graph.latency import LatencyModel
from modelopt_cli.models.measure import latency
from modelopt_cli.pruning.unit_choice import Limit
from modelopt_cli.pruning.unit_pruner import Removal, UnitPruner

if TYPE_CHECKING:
    from torch import Tensor

    from modelopt_cli.models.graph.axes import Prime
    from modelopt_cli.models.graph.groups import Group
    from modelopt_cli.models.graph.network import Network
    from modelopt_cli.pruning.settings import PruningSettings

FINAL = 0.5
"""The amount that a schedule is planned with; a budget is met in the same proportions."""
_TRIES = 4
_SECONDS = 1.0


class UnitBudget:
    """What there was is noted when the first units go."""

    def __init__(self, settings: PruningSettings, network: Network, groups: Sequence[Group]) -> None:
        assert settings.budget is not None
        self._budget, self._network, self._groups = settings.budget, network, groups
        self._dense: float | None = None
        self._overhead = 0.0  # bytes of model.pt that are no tensors
        self._model: LatencyModel | None = None

    @property
    def samples(self) -> int:
        """How many train samples `met` looks at."""
        return self._budget.latency_batch

    def note_file(self, size: int) -> None:
        """Bytes of model.pt before anything has gone; the indices of what is kept will come on top."""
        units = sum(group.size for group in self._groups)
        self._overhead = float(size - self._network.costs.tensor_bytes({}) + 4 * units + 200 * len(self._groups))
        self._dense = float(size)

    def known(self) -> Limit | None:
        """What may be left at the end, where that is known before anything is measured or written."""
        if self._budget.of not in ("parameters", "flops"):
            return None
        return Limit(self._budget.of, self._cost, self._least(1.0, self._cost({})))

    def met(self, target: float, pruner: UnitPruner, inputs: Tensor) -> Removal:
        """The removal for the share `target` of FINAL: that part of the way from what there was to the budget."""
        part = min(1.0, target / FINAL)
        if self._budget.of == "latency_ms":
            return self._met_latency(part, pruner, inputs)
        if self._dense is None:
            self._dense = self._cost({})
        return pruner.prune(target, Limit(self._budget.of, self._cost, self._least(part, self._dense)))

    def _least(self, part: float, dense: float) -> float:
        return dense - part * (dense - min(dense, self._budget.left(dense)))

    def _cost(self, counts: Mapping[Prime, int]) -> float:
        costs = self._network.costs
        if self._budget.of == "parameters":
            return float(costs.parameters(counts))
        return 2.0 * costs.macs(counts) if self._budget.of == "flops" else costs.tensor_bytes(counts) + self._overhead

    def _met_latency(self, part: float, pruner: UnitPruner, inputs: Tensor) -> Removal:
        """By a fitted model of the time; what comes out is measured, and the aim corrected until it is met."""
        size = self._budget.latency_batch
        batch = inputs[torch.arange(size) % len(inputs)]
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if self._model is None:
                self._model = LatencyModel(self._network, self._groups, batch)
                self._dense = self._model.milliseconds(self._network.counts())
            assert self._dense is not None
            limit = aim = self._least(part, self._dense)
            for _ in range(_TRIES):
                removal = pruner.prune(FINAL * part, Limit("latency_ms", self._model.milliseconds, aim))
                taken = self._measured(removal, batch)
                if taken <= limit:
                    break
                aim *= limit / taken * 0.98
        finally:
            torch.set_num_threads(before)
        return removal

    def _measured(self, removal: Removal, batch: Tensor) -> float:
        """Milliseconds: the share of what the network takes now, run by run in turns, of its own milliseconds."""
        assert self._model is not None
        contenders = {"now": self._network.current(), "then": removal.graph}
        now, then = latency(contenders, batch, (len(batch),), seconds=_SECONDS)
        return then.relative_to(now) * self._model.milliseconds(self._network.counts())

    def state(self) -> dict[str, Any]:
        """What `load_state` needs."""
        return {"dense": self._dense, "overhead": self._overhead}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._dense, self._overhead = state["dense"], state["overhead"]
