"""One pruning of units: collect, score, cut, take out, check, compensate. What joins the axes of choice for units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.axes import Keep, Mask, Prime
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network
from modelopt_cli.pruning.allocating import allocate
from modelopt_cli.pruning.allocations import Allocation, Judge
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.common.cuts import Cut
from modelopt_cli.pruning.common.distances import Distance
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.units.checks import faults
from modelopt_cli.pruning.units.choice import Limit, Masks, near, tied, within
from modelopt_cli.pruning.units.collection import collect_units, make_units
from modelopt_cli.pruning.units.consumers import Consumer, measure
from modelopt_cli.pruning.units.reconstruction import POSITIONS, reconstruct
from modelopt_cli.pruning.units.scores import comparable, kind_of
from modelopt_cli.pruning.units.selection import ALLOWING, held_by_statistics
from modelopt_cli.pruning.units.sensitivity import UnitJudge
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss


@dataclass
class Removal:
    """What one pruning does: `keep` in place of the network's `held`, and the graph of what is left, compensated."""

    keep: dict[Prime, Mask]
    graph: fx.GraphModule


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
        distance: Distance,
        ties: Sequence[frozenset[str]] = (),
    ) -> None:
        """`batches`: calibration samples. `ties`: names of groups that must keep the same share."""
        self.network, self.settings, self.ties = network, settings, tuple(ties)
        self.groups = list(groups)
        self.refused: dict[str, str] = {}
        self.sensitivity: list[tuple[str, float, float]] = []  # (group, share removed, loss), as measured
        self._batches, self.loss, self.distance = batches, loss, distance
        self._consumers: dict[str, list[Consumer]] | None = None

    def prune(self, target: float, limit: Limit | None = None) -> Removal:
        """What goes for the share `target` of all units of the groups, or below it (threshold), or down to the limit.

        The network is left as it is: what is asked for is in the Removal. Raises UsageError where nothing can go, or
        the limit cannot be met.
        """
        batches = self._batches()
        inputs = [batch.inputs for batch in batches]
        self._consumers = None
        while True:
            if not self.groups:
                raise UsageError(f"no group of units can go: {'; '.join(self.refused.values()) or 'there is none'}")
            keep = self.keep(self._chosen(batches, target, limit))
            found = faults(self.network, keep, self.groups, inputs[0])
            if not found:
                break
            self.refused |= found
            self.groups = [group for group in self.groups if group.name not in found]
        graph = self.network.without(keep)
        self.compensate(graph, keep, inputs)
        return Removal(keep, graph)

    def check(self, batches: Sequence[Batch], limit: Limit | None = None) -> None:
        """Raise UsageError for what cannot be, whatever the weights are: groups without scores, a limit too low.

        `batches`: a few samples, as the scores are not used.
        """
        least = self.most(batches)
        if limit is not None and (cost := limit.cost(self.network.counts(least))) > limit.most:
            raise self.too_low(limit, cost)

    def most(self, batches: Sequence[Batch]) -> dict[Prime, Mask]:
        """What is kept when all that may go is gone. `batches`: a few samples, as the scores are not used."""
        scores = self.scores(batches)
        all_goes = self.settings.neurons.keep(scores, lambda given: self._cuts(Global(), given, 1.0, None))
        return self.keep(tied(self.standing(all_goes), scores, self.ties))

    def compensate(self, graph: fx.GraphModule, keep: Keep, inputs: Sequence[Tensor]) -> None:
        """Make up in the graph for what `keep` leaves out."""
        compensation, recalibrates = self.settings.unit_compensation, self.settings.recalibrate_batch_norm
        if not compensation.fits and not recalibrates:
            return
        network = self.network
        reconstruct(
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
        judge = UnitJudge(self, batches, scores, limit)

        def masks(share: float) -> Masks:
            found = self.settings.neurons.keep(scores, lambda given: self._cuts(allocation, given, share, judge))
            return tied(self.standing(found), scores, self.ties)

        if limit is None and absolute:
            return masks(target)
        if limit is None:
            cuts = self._cuts(allocation, scores, target, judge)
            wanted = sum(cut.count(scores[name]) for name, cut in cuts.items())
            return near(wanted, target, masks, scores, self._whole(), self._steps())
        found = within(
            lambda tried: limit.cost(self.counts(tried)), masks, limit.most, scores, self._whole(), self._steps()
        )
        if found is None:
            raise self.too_low(limit, limit.cost(self.counts(masks(1.0))))
        return found

    def _whole(self) -> set[str]:
        """Groups that lose units in steps only."""
        if self.settings.neurons.round_to > 1:
            return {group.name for group in self.groups}
        return {name for tie in self.ties for name in tie}

    def _steps(self) -> dict[str, int]:
        """Groups that lose so many units at a time, but for those of a tie, which lose them together."""
        step, bound = self.settings.neurons.round_to, {name for tie in self.ties for name in tie}
        return {group.name: step for group in self.groups if step > 1 and group.name not in bound}

    def scores(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """(n,) of each group, on the CPU, of what is gone -inf."""
        importance, network, groups = self.settings.unit_importance, self.network, self.groups
        graph, aggregate = network.current(), self.settings.neurons.aggregate
        collected = collect_units(
            graph,
            network.analysis,
            groups,
            network.held,
            importance.unit_needs,
            lambda: batches,
            self.loss,
            probes=importance.hessian_probes(),
        )
        consumers = self.consumers(graph, batches) if importance.needs_takers else {}
        found = {}
        for group in groups:
            units = make_units(graph, network.analysis, group, network.held, aggregate, collected[group.name])
            units = replace(units, takers=[each.taker(graph) for each in consumers.get(group.name, ())])
            score = torch.full((group.size,), -torch.inf, dtype=torch.float64)
            score[torch.from_numpy(self.left(group))] = importance.scores(units).detach().double().cpu()
            found[group.name] = score
        return found

    def consumers(self, graph: fx.GraphModule, batches: Sequence[Batch]) -> dict[str, list[Consumer]]:
        """Of each group the layers that take its units, measured on these batches; once for each pruning."""
        if self._consumers is None:
            network, inputs = self.network, [batch.inputs for batch in batches]
            self._consumers = measure(graph, network.analysis, self.groups, network.held, inputs, POSITIONS)
        return self._consumers

    def left(self, group: Group) -> Mask:
        """(n,) which units are left."""
        return self.network.held.get(group.prime, np.ones(group.size, dtype=np.bool_))

    def _cuts(
        self, allocation: Allocation, scores: Mapping[str, Tensor], share: float, judge: Judge | None
    ) -> dict[str, Cut]:
        keep_at_least = self.settings.keep_at_least
        given = judge if allocation.measures else None
        return allocate(allocation, scores, share, keep_at_least=keep_at_least, judge=given)

    def standing(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks in which what is gone stays gone, whatever rounding says."""
        held = {group.name: self.network.held.get(group.prime) for group in self.groups}
        found = dict(masks)
        for name, before in held.items():
            if before is not None and name in found:
                found[name] = found[name] & torch.from_numpy(before)
        return found

    def keep(self, masks: Masks) -> dict[Prime, Mask]:
        """Masks by group as masks by prime; of groups without one what is left stays."""
        found = dict(self.network.held)
        for group in self.groups:
            if group.name in masks and not bool(masks[group.name].all()):
                found[group.prime] = masks[group.name].numpy()
        return found

    def counts(self, masks: Masks) -> dict[Prime, int]:
        """Units that the masks leave, for a cost."""
        return self.network.counts(self.keep(masks))

    def too_low(self, limit: Limit, least: float) -> UsageError:
        """For a limit that what is left when all that may go is gone, `least`, does not meet."""
        held = sum(self.network.left(group) for group in held_by_statistics(self.network, self.settings))
        allow = f"let {held} more units go by {ALLOWING}; or " if held else ""
        asked = limit.written or f"{limit.most:,.6g}"
        return UsageError(
            f"pruning.budget.{limit.what} is {asked}, but {least:,.6g} are left when all that may go is gone"
            f"; {allow}raise it, let more go (limits, keep_at_least, include, exclude), or use a smaller model"
        )
