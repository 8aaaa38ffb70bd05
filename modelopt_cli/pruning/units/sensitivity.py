"""Tries out what cutting one group of units alone does, so that an allocation can weigh groups against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from modelopt_cli.models.graph.rewriting import first_tensor
from modelopt_cli.pruning.allocations import Judge
from modelopt_cli.pruning.common.cuts import Cut
from modelopt_cli.pruning.common.distances import apart
from modelopt_cli.pruning.units.consumers import takers_are_known
from modelopt_cli.pruning.units.output_error import Damage
from modelopt_cli.training.batches import Batch

if TYPE_CHECKING:
    from modelopt_cli.pruning.units.choice import Limit
    from modelopt_cli.pruning.units.pruner import UnitPruner


class UnitJudge(Judge):
    """One for each pruning; the same cut is tried once."""

    def __init__(
        self, pruner: UnitPruner, batches: Sequence[Batch], scores: Mapping[str, Tensor], limit: Limit | None
    ) -> None:
        """`limit`: what a unit saves is counted in; without one, units are."""
        self._pruner, self._batches, self._scores, self._limit = pruner, batches, scores, limit
        self._groups = {group.name: group for group in pruner.groups}
        self._known: dict[tuple[str, str, int], float] = {}
        self._prices: dict[str, float] = {}
        self._damage: Damage | None = None
        self._before: list[Tensor] | None = None
        self._direct: dict[str, bool] = {}

    @cached_property
    def _graph(self) -> fx.GraphModule:
        return self._pruner.network.current()

    def loss(self, name: str, cut: Cut) -> float:
        """On the calibration samples."""
        return self._once("loss", name, cut)

    def damage(self, name: str, cut: Cut) -> float:
        """On the calibration samples, with what makes up for it."""
        return self._once("damage", name, cut)

    def price(self, name: str) -> float:
        """What the limit counts in, for the last unit of the group that is there now."""
        if self._limit is None:
            return 1.0
        if name not in self._prices:
            group, counts = self._groups[name], self._pruner.network.counts()
            left = self._pruner.network.left(group)
            whole = self._limit.cost(counts)
            less = self._limit.cost({**counts, group.prime: max(left - 1, 0)})
            self._prices[name] = max(whole - less, 1e-9 * whole)
        return self._prices[name]

    def _once(self, what: str, name: str, cut: Cut) -> float:
        key = (what, name, cut.count(self._scores[name]))
        if key not in self._known:
            stays = ~cut.removes(self._scores[name])
            stays[self._scores[name].argmax()] = True  # a group is never emptied
            found = self._loss(name, stays) if what == "loss" else self._found_damage(name, stays)
            self._known[key] = found
            self._pruner.sensitivity.append((name, 1.0 - float(stays.float().mean()), found))
        return self._known[key]

    def _loss(self, name: str, stays: Tensor) -> float:
        total = count = 0.0
        for batch, outputs in zip(self._batches, self._outputs(name, stays), strict=True):
            total += float(self._pruner.loss(outputs, batch.targets, batch.weights)) * len(batch.inputs)
            count += len(batch.inputs)
        return total / count

    def _found_damage(self, name: str, stays: Tensor) -> float:
        pruner, graph, group = self._pruner, self._graph, self._groups[name]
        if name not in self._direct:
            known = takers_are_known(graph, pruner.network.analysis, group)
            self._direct[name] = known and not group.shifts
        if not self._direct[name]:
            if self._before is None:
                with torch.no_grad():
                    self._before = [first_tensor(graph(batch.inputs)) for batch in self._batches]
            return apart(self._before, self._outputs(name, stays), pruner.distance)
        if self._damage is None:
            consumers = pruner.consumers(graph, self._batches)
            inputs = [batch.inputs for batch in self._batches]
            compensation = pruner.settings.unit_compensation
            self._damage = Damage(graph, consumers, inputs, compensation, pruner.distance)
        return self._damage.of(name, stays[torch.from_numpy(pruner.left(group))])

    def _outputs(self, name: str, stays: Tensor) -> list[Tensor]:
        """Of the calibration samples, when of this group these stay."""
        pruner = self._pruner
        keep = pruner.keep(pruner.standing({name: stays}))
        graph = pruner.network.without(keep)
        pruner.compensate(graph, keep, [batch.inputs for batch in self._batches])
        with torch.no_grad():
            return [first_tensor(graph(batch.inputs)) for batch in self._batches]
