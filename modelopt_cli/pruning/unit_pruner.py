"""One pruning of units: collect, score, cut, take out, check, compensate. What joins the axes of choice for units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, fx

from modelopt_cli.core.errors import UsageError
from modelopt_cli.pruning.allocating import allocate
from modelopt_cli.pruning.allocations import Allocation
from modelopt_cli.pruning.cuts import Cut
from modelopt_cli.pruning.graph.axes import Mask, Prime
from modelopt_cli.pruning.graph.groups import Group
from modelopt_cli.pruning.graph.network import Network
from modelopt_cli.pruning.reconstruction import reconstruct
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.unit_checks import faults
from modelopt_cli.pruning.unit_choice import Masks, tied, within
from modelopt_cli.pruning.unit_collection import collect_units, make_units
from modelopt_cli.pruning.unit_scores import comparable, kind_of
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss

Cost = Callable[[Mapping[Prime, int]], float]


@dataclass(frozen=True)
class Limit:
    """What may be left: `cost` of units left, at most `most`. `what`: as the file calls it."""

    what: str
    cost: Cost
    most: float


@dataclass
class Removal:
    """What one pruning does: `keep` in place of the network's `held`, and the graph of what is left, compensated."""

    keep: dict[Prime, Mask]
    graph: fx.GraphModule
    fitted: list[str] = field(default_factory=list)  # weights that a compensation fitted


class UnitPruner:
    """Chooses units of `groups` of a network, ever more. `refused`: groups that failed a check, and why."""

    def __init__(
        self,
        network: Network,
        settings: PruningSettings,
        groups: Sequence[Group],
        *,
        batches: Callable[[], Sequence[Batch]],
        loss: Loss,
        ties: Sequence[frozenset[str]] = (),
    ) -> None:
        """`batches`: calibration samples. `ties`: names of groups that must keep the same share."""
        self.network, self.settings, self.ties = network, settings, tuple(ties)
        self.groups = list(groups)
        self.refused: dict[str, str] = {}
        self.sensitivity: list[tuple[str, float, float]] = []  # (group, share removed, loss), as measured
        self._batches, self._loss = batches, loss

    def prune(self, target: float, limit: Limit | None = None) -> Removal:
        """What goes for the share `target` of all units of the groups, or below it (threshold), or down to the limit.

        The network is left as it is: what is asked for is in the Removal. Raises UsageError where nothing can go, or
        the limit cannot be met.
        """
        batches = self._batches()
        inputs = [batch.inputs for batch in batches]
        while True:
            if not self.groups:
                raise UsageError(f"no group of units can go: {'; '.join(self.refused.values()) or 'there is none'}")
            keep = self._keep(self._chosen(batches, target, limit))
            found = faults(self.network, keep, self.groups, inputs[0])
            if not found:
                break
            self.refused |= found
            self.groups = [group for group in self.groups if group.name not in found]
        graph = self.network.without(keep)
        fitted = self._compensate(graph, keep, inputs)
        return Removal(keep, graph, fitted)

    def _compensate(self, graph: fx.GraphModule, keep: Mapping[Prime, Mask], inputs: Sequence[Tensor]) -> list[str]:
        compensation, recalibrates = self.settings.unit_compensation, self.settings.recalibrate_batch_norm
        if not compensation.fits and not recalibrates:
            return []
        network = self.network
        return reconstruct(
            network.current(),
            graph,
            network.analysis,
            network.held,
            keep,
            inputs,
            compensation,
            recalibrate=recalibrates,
        )

    def _chosen(self, batches: Sequence[Batch], target: float, limit: Limit | None) -> Masks:
        """What stays of each group."""
        plain = self.scores(batches)
        absolute = self.settings.threshold is not None
        kinds = {group.name: kind_of(group, self.network.analysis) for group in self.groups}
        scores = comparable(plain, "none" if absolute else self.settings.neurons.normalize, kinds)
        allocation = self.settings.chosen_allocation
        assert allocation is not None

        def masks(share: float) -> Masks:
            found = self.settings.neurons.keep(scores, lambda given: self._cuts(allocation, given, share, batches))
            return tied(self._gone_stays_gone(found), scores, self.ties)

        if limit is None:
            return masks(target)
        found = within(lambda tried: limit.cost(self._counts(tried)), masks, limit.most, scores, self._whole())
        if found is None:
            least = limit.cost(self._counts(masks(1.0)))
            raise UsageError(
                f"pruning.budget.{limit.what} is {limit.most:,.6g}, but {least:,.6g} are left when all that may go is "
                "gone; raise it, let more go (structure: {type: neurons, shift_statistics: true}, limits, "
                "keep_at_least, include, exclude), or use a smaller model"
            )
        return found

    def _whole(self) -> set[str]:
        """Groups that lose units in steps only."""
        if self.settings.neurons.round_to > 1:
            return {group.name for group in self.groups}
        return {name for tie in self.ties for name in tie}

    def scores(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """(n,) of each group, on the CPU, of what is gone -inf."""
        importance, network = self.settings.unit_importance, self.network
        graph = network.current()
        collected = collect_units(
            graph, network.analysis, self.groups, network.held, importance.unit_needs, lambda: batches, self._loss
        )
        found = {}
        for group in self.groups:
            units = make_units(
                graph, network.analysis, group, network.held, self.settings.neurons.aggregate, collected[group.name]
            )
            score = torch.full((group.size,), -torch.inf, dtype=torch.float64)
            left = torch.from_numpy(network.held.get(group.prime, np.ones(group.size, dtype=np.bool_)))
            score[left] = importance.scores(units).detach().double().cpu()
            found[group.name] = score
        return found

    def _cuts(
        self, allocation: Allocation, scores: Mapping[str, Tensor], share: float, batches: Sequence[Batch]
    ) -> dict[str, Cut]:
        judge = (lambda name, cut: self._judged(scores, name, cut, batches)) if allocation.measures else None
        return allocate(allocation, scores, share, keep_at_least=self.settings.keep_at_least, judge=judge)

    def _judged(self, scores: Mapping[str, Tensor], name: str, cut: Cut, batches: Sequence[Batch]) -> float:
        """The loss on the calibration samples when this group alone is cut, with what makes up for it."""
        alone = self.settings.neurons.keep({name: scores[name]}, lambda given: {name: cut})
        keep = self._keep(self._gone_stays_gone(alone))
        graph = self.network.without(keep)
        self._compensate(graph, keep, [batch.inputs for batch in batches])
        total = count = 0.0
        with torch.no_grad():
            for batch in batches:
                total += float(self._loss(graph(batch.inputs), batch.targets, batch.weights)) * len(batch.inputs)
                count += len(batch.inputs)
        self.sensitivity.append((name, 1.0 - float(alone[name].float().mean()), total / count))
        return total / count

    def _gone_stays_gone(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rounding up never takes back what is gone."""
        held = {group.name: self.network.held.get(group.prime) for group in self.groups}
        found = dict(masks)
        for name, before in held.items():
            if before is not None and name in found:
                found[name] = found[name] & torch.from_numpy(before)
        return found

    def _keep(self, masks: Masks) -> dict[Prime, Mask]:
        found = dict(self.network.held)
        for group in self.groups:
            if group.name in masks and not bool(masks[group.name].all()):
                found[group.prime] = masks[group.name].numpy()
        return found

    def _counts(self, masks: Masks) -> dict[Prime, int]:
        return self.network.counts(self._keep(masks))
