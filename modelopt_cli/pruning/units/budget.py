"""Budgets of units: what a network may cost at the end, and on the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import torch

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.latency import LatencyModel
from modelopt_cli.models.latency import latency
from modelopt_cli.pruning.units.masks import Limit
from modelopt_cli.pruning.units.pruner import Removal, UnitPruner

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from modelopt_cli.models.graph.axes import Prime
    from modelopt_cli.models.graph.groups import Group
    from modelopt_cli.models.graph.network import Network
    from modelopt_cli.pruning.settings import PruningSettings
    from modelopt_cli.training.batches import Batch

FINAL = 0.5
"""The amount that a schedule is planned with; a budget is met in the same proportions."""
_TRIES = 5
_SECONDS = 1.0
_QUIET = 0.03  # a measurement that is off by more than this share is made again, ...
_AGAIN = 3  # ... so often in all
_DROWNED = 3.0  # what can be saved at most must be so many times what measuring is off by
_UNITS = {"latency_ms": " ms", "size_bytes": " bytes"}


@dataclass(frozen=True)
class _Dense:
    """What was measured before anything went, in milliseconds, and by what share it may be off."""

    module: float  # the model as its code runs it
    graph: float  # its captured graph, which has less overhead
    least: float  # the graph without all that may go
    noise: float


class BudgetState(TypedDict, total=False):
    """What a saved run holds of a budget. Runs of earlier versions have no `timed`, `reached` and `told`."""

    dense: float | None  # cost before anything went
    overhead: float
    timed: list[float] | None  # _Dense
    reached: float | None
    told: str


class UnitBudget:
    """What there was is noted when the first units go. `remark`: what the user should know of how it was met."""

    def __init__(self, settings: PruningSettings, network: Network, groups: Sequence[Group]) -> None:
        assert settings.budget is not None
        self._budget, self._network, self._groups = settings.budget, network, groups
        self._dense: float | None = None
        self._overhead = 0.0  # bytes of model.pt that are no tensors
        self._timed: _Dense | None = None
        self._model: LatencyModel | None = None
        self._reference: tuple[fx.GraphModule, float] | None = None  # timed in turns with what is tried; its ms
        self._reached: float | None = None  # ms of the graph that is left
        self.remark = ""

    @property
    def samples(self) -> int:
        """How many train samples `met` looks at."""
        return self._budget.latency_batch

    def note_file(self, size: int) -> None:
        """Bytes of model.pt before anything has gone; the indices of what is kept will come on top."""
        units = sum(group.size for group in self._groups)
        self._overhead = float(size - self._network.costs.tensor_bytes({}) + 4 * units + 200 * len(self._groups))
        self._dense = float(size)

    def check(self, pruner: UnitPruner, batches: Sequence[Batch], module: nn.Module, *, in_place: bool) -> None:
        """Raise UsageError for a budget that cannot be met, as far as that is known before model.pt is written.

        `batches`: a few samples; `in_place`: units are taken out of the module itself.
        """
        limit = None
        if self._budget.of in ("parameters", "flops"):
            limit = self._limit(1.0, self._cost({}))
        pruner.check(batches, limit)
        if self._budget.of == "latency_ms":
            self._measure(pruner, batches, module, in_place=in_place)

    def met(
        self, target: float, pruner: UnitPruner, batches: Sequence[Batch], module: nn.Module, *, in_place: bool
    ) -> Removal | None:
        """The removal for the share `target` of FINAL: that part of the way from what there was to the budget.

        None: what there was meets it, so nothing goes. Raises UsageError where it cannot be met.
        """
        part = min(1.0, target / FINAL)
        if self._budget.of == "latency_ms":
            return self._met_latency(part, pruner, batches, module, in_place=in_place)
        if self._dense is None:
            self._dense = self._cost({})
        if self._dense <= self._budget.left(self._dense):
            self._note_met(self._dense)
            return None
        return pruner.prune(target, self._limit(part, self._dense))

    def _note_met(self, dense: float, noise: float = 0.0) -> None:
        what, unit = self._budget.of, _UNITS.get(self._budget.of, "")
        off = f", measured to ± {noise:.1%}" if noise else ""
        self.remark = (
            f"pruning.budget.{what} is {self._budget.described(self._budget.left(dense), unit)}, which the model meets "
            f"as it is ({dense:,.6g}{unit}{off}): nothing was taken out"
        )

    def _limit(self, part: float, dense: float) -> Limit:
        final = self._budget.left(dense)
        return Limit(self._budget.of, self._cost, dense - part * (dense - min(dense, final)), self._written(dense))

    def _written(self, dense: float) -> str:
        return self._budget.described(self._budget.left(dense), _UNITS.get(self._budget.of, ""))

    def _cost(self, counts: Mapping[Prime, int]) -> float:
        costs = self._network.costs
        if self._budget.of == "parameters":
            return float(costs.parameters(counts))
        return 2.0 * costs.macs(counts) if self._budget.of == "flops" else costs.tensor_bytes(counts) + self._overhead

    def _batch(self, batches: Sequence[Batch]) -> Tensor:
        """(latency_batch, *inputs), samples repeated where there are too few."""
        inputs = torch.cat([batch.inputs for batch in batches])
        return inputs[torch.arange(self._budget.latency_batch, device=inputs.device) % len(inputs)]

    def _measure(
        self, pruner: UnitPruner, batches: Sequence[Batch], module: nn.Module, *, in_place: bool
    ) -> tuple[_Dense, float]:
        """What there was, once, and milliseconds that the module's own code adds to its graph.

        Raises UsageError where the budget is below what is left when all that may go is gone, and where that saves
        less than can be measured.
        """
        if self._timed is None:
            self._timed = self._quietest(self._network.without(pruner.most(batches)), module, self._batch(batches))
            self._dense = self._timed.module
        timed = self._timed
        added = timed.module - timed.graph if in_place else 0.0
        most, least = self._budget.left(timed.module), timed.least + added
        saved, off = timed.module - least, timed.noise * timed.module
        if self._already(timed):
            return timed, added
        if saved < _DROWNED * off:
            raise UsageError(
                f"pruning.budget.latency_ms is {self._written(timed.module)}, but a batch of "
                f"{self._budget.latency_batch} takes {timed.module:.3g} ms, of which taking out all that may go saves "
                f"{max(0.0, saved) / timed.module:.1%}, measured to ± {timed.noise:.1%}: the time of so small a "
                "network is overhead, and drowns in noise; use a budget of flops or parameters, or a larger "
                "latency_batch, or measure again when the machine does nothing else"
            )
        if most < least - off:
            limit = Limit("latency_ms", lambda _: least, most, self._written(timed.module))
            raise pruner.too_low(limit, least)
        return timed, added

    def _already(self, timed: _Dense) -> bool:
        return self._budget.left(timed.module) >= timed.module * (1.0 - timed.noise)

    def _quietest(self, smallest: fx.GraphModule, module: nn.Module, batch: Tensor) -> _Dense:
        """Measured again where it was noisy; the least noisy counts."""
        contenders: dict[str, nn.Module] = {"module": module, "graph": self._network.current(), "least": smallest}
        tries: list[_Dense] = []
        while not tries or (len(tries) < _AGAIN and tries[-1].noise > _QUIET):
            whole, graph, least = latency(contenders, batch, (len(batch),), seconds=_SECONDS)
            tries.append(_Dense(whole.least, graph.least, least.least, least.least_of(graph)[1]))
        return min(tries, key=lambda each: each.noise)

    def _met_latency(
        self, part: float, pruner: UnitPruner, batches: Sequence[Batch], module: nn.Module, *, in_place: bool
    ) -> Removal | None:
        """By a fitted model of the time; what comes out is measured, and the aim corrected until it is near enough."""
        timed, added = self._measure(pruner, batches, module, in_place=in_place)
        if self._already(timed):
            self._note_met(timed.module, timed.noise)
            return None
        batch, written = self._batch(batches), self._written(timed.module)
        final = self._budget.left(timed.module)
        limit = timed.module - part * (timed.module - final) - added  # for the graph
        model, counts = self._fitted(timed, batch), self._network.counts
        low = (model.milliseconds(counts(pruner.most(batches))), timed.least)  # what the model says, and what it takes
        high = (model.milliseconds(counts()), self._reached or timed.graph)
        seen: list[tuple[float, float, Removal]] = []
        for _ in range(_TRIES):
            way = (limit - low[1]) / (high[1] - low[1]) if high[1] > low[1] else 0.0
            aim = low[0] + min(1.0, max(0.0, way)) * (high[0] - low[0])
            removal = pruner.prune(FINAL * part, Limit("latency_ms", model.milliseconds, aim, written))
            taken, noise = self._taken(removal, batch)
            again = any(counts(removal.keep) == counts(each.keep) for _, _, each in seen)
            seen.append((taken, noise, removal))
            if again or limit * (1.0 - 2.0 * noise) <= taken <= limit * (1.0 + noise):
                break
            low, high = ((aim, taken), high) if taken < limit else (low, (aim, taken))
        fitting = [each for each in seen if each[0] <= limit * (1.0 + each[1])]
        best = max(fitting, key=lambda each: each[0]) if fitting else min(seen, key=lambda each: each[0])
        self._reached, noise, removal = best
        self._note_reached(self._reached + added, timed, noise, missed=not fitting)
        return removal

    def _note_reached(self, taken: float, timed: _Dense, noise: float, *, missed: bool) -> None:
        missing = "; it is missed, as no other units could go" if missed else ""
        self.remark = (
            f"pruning.budget.latency_ms is {self._written(timed.module)}: a batch of {self._budget.latency_batch} took "
            f"{timed.module:.3g} ms and takes {taken:.3g}, the least of many turns on one thread, measured to "
            f"± {noise:.1%}; asked again, what goes may differ by as much{missing}"
        )

    def _fitted(self, timed: _Dense, batch: Tensor) -> LatencyModel:
        """The model of the time, made once, on the scale of what was measured."""
        if self._model is None or self._reference is None:
            before = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                self._model = LatencyModel(self._network, self._groups, batch)
            finally:
                torch.set_num_threads(before)
            graph, now = self._network.current(), self._reached or timed.graph
            self._reference = graph, now
            self._model.correct(now / self._model.milliseconds(self._network.counts()))
        return self._model

    def _taken(self, removal: Removal, batch: Tensor) -> tuple[float, float]:
        """Milliseconds of the graph that is left, by its share of the reference's in turns; by what they may be off."""
        assert self._reference is not None
        graph, milliseconds = self._reference
        contenders = {"reference": graph, "left": removal.graph}
        reference, left = latency(contenders, batch, (len(batch),), seconds=_SECONDS)
        share, noise = left.least_of(reference)
        return share * milliseconds, noise

    @property
    def state(self) -> BudgetState:
        """What a saved run holds of it; setting it goes on from there."""
        timed = None if self._timed is None else list(vars(self._timed).values())
        return {
            "dense": self._dense,
            "overhead": self._overhead,
            "timed": timed,
            "reached": self._reached,
            "told": self.remark,
        }

    @state.setter
    def state(self, state: BudgetState) -> None:
        self._dense, self._overhead = state["dense"], state["overhead"]
        self._timed = _Dense(*timed) if (timed := state.get("timed")) else None
        self._reached, self.remark = state.get("reached"), state.get("told", "")
