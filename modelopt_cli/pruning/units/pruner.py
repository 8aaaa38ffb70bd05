"""One pruning of units: collect, score, cut, take out, check, compensate. Joins the axes of choice for units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.work import counted
from modelopt_cli.models.graph.analysis import Analysis
from modelopt_cli.models.graph.axes import Mask, Prime
from modelopt_cli.models.graph.groups import Group
from modelopt_cli.models.graph.network import Network
from modelopt_cli.pruning.allocations import Allocation, ProbedCuts, SensitivityProbe
from modelopt_cli.pruning.allocations.global_ import Global
from modelopt_cli.pruning.common.cuts import Cut
from modelopt_cli.pruning.common.distances import Distance
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.structures.neurons import Normalize
from modelopt_cli.pruning.units.checks import faults
from modelopt_cli.pruning.units.collection import collect_units, make_units
from modelopt_cli.pruning.units.consumers import GraphConsumer, measure
from modelopt_cli.pruning.units.cut_store import CutStore
from modelopt_cli.pruning.units.masks import Limit, Masks, around, by_prime, left, near, standing, tied, within
from modelopt_cli.pruning.units.reconstruction import POSITIONS, compensate
from modelopt_cli.pruning.units.selection import ALLOWING, held_by_statistics
from modelopt_cli.pruning.units.sensitivity import UnitSensitivityProbe
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
        store: Callable[[str], CutStore] | None = None,
    ) -> None:
        """`batches`: calibration samples. `ties`: names of groups that must keep the same share.

        `store`: from the digest of a network to what is known of cuts of it; None: nothing is kept.
        """
        self.network, self.settings, self.ties = network, settings, tuple(ties)
        self.groups = list(groups)
        self.refused: dict[str, str] = {}
        self.sensitivity: ProbedCuts = []  # as an allocation measured it
        self.passes = 0.0  # over all calibration samples that it took for that
        self._batches, self._loss, self._distance = batches, loss, distance
        self._store = store
        self._consumers: dict[str, list[GraphConsumer]] | None = None

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
            keep = by_prime(self.network, self.groups, self._chosen(batches, target, limit))
            failed = faults(self.network, keep, self.groups, inputs[0])
            if not failed:
                break
            self.refused |= failed
            self.groups = [group for group in self.groups if group.name not in failed]
        graph = self.network.without(keep)
        compensate(self.network, self.settings, graph, keep, inputs)
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
        kept = self.settings.neurons.keep(scores, lambda given: self._cuts(Global(), given, 1.0, None))
        return by_prime(self.network, self.groups, self._whole_ties(kept, scores))

    def _whole_ties(self, masks: Masks, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is gone stays gone, and tied groups keep the same share."""
        return tied(standing(self.network, self.groups, masks), scores, self.ties)

    def _chosen(self, batches: Sequence[Batch], target: float, limit: Limit | None) -> Masks:
        """What stays of each group."""
        plain = self.scores(batches)
        absolute = self.settings.threshold is not None
        kinds = {group.name: kind_of(group, self.network.analysis) for group in self.groups}
        scores = comparable(plain, "none" if absolute else self.settings.neurons.normalize, kinds)
        probe = self.probe(batches, scores, limit)
        kept = self._kept(scores, target, limit, probe)
        self.passes += probe.passes
        probe.save()
        return kept

    def _kept(self, scores: Mapping[str, Tensor], target: float, limit: Limit | None, probe: SensitivityProbe) -> Masks:
        """What stays of each group when these scores are cut."""
        allocation = self.settings.chosen_allocation
        assert allocation is not None

        def masks(share: float) -> Masks:
            kept = self.settings.neurons.keep(scores, lambda given: self._cuts(allocation, given, share, probe))
            return self._whole_ties(kept, scores)

        def cost(tried: Masks, limit: Limit) -> float:
            return limit.cost(self.network.counts(by_prime(self.network, self.groups, tried)))

        if limit is None and self.settings.threshold is not None:
            return masks(target)
        if limit is None:
            cuts = self._cuts(allocation, scores, target, probe)
            wanted = sum(cut.count(scores[name]) for name, cut in cuts.items())
            probe.rough = True  # about other shares nothing more is measured
            return near(wanted, target, masks, scores, self._whole(), self._steps())
        if allocation.measures:  # roughly first, then more is measured where the limit is met
            probe.rough = True
            ends = around(lambda tried: cost(tried, limit), masks, limit.most)
            probe.rough = False
            if ends is not None:
                masks(ends[1])
            probe.rough = True
        kept = within(lambda tried: cost(tried, limit), masks, limit.most, scores, self._whole(), self._steps())
        if kept is None:
            raise self.too_low(limit, cost(masks(1.0), limit))
        return kept

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
            self._loss,
            probes=importance.hessian_probes(),
        )
        consumers = self.consumers(graph, batches) if importance.needs_consumers else {}
        scores = {}
        for group in counted(groups, "groups ranked"):
            units = make_units(graph, network.analysis, group, network.held, aggregate, collected[group.name])
            units = replace(units, consumers=consumers.get(group.name, ()))
            score = torch.full((group.size,), -torch.inf, dtype=torch.float64)
            score[torch.from_numpy(left(network, group))] = importance.scores(units).detach().double().cpu()
            scores[group.name] = score
        return scores

    def consumers(self, graph: fx.GraphModule, batches: Sequence[Batch]) -> dict[str, list[GraphConsumer]]:
        """Of each group the layers that take its units, measured on these batches; once for each pruning."""
        if self._consumers is None:
            network, inputs = self.network, [batch.inputs for batch in batches]
            self._consumers = measure(graph, network.analysis, self.groups, network.held, inputs, POSITIONS)
        return self._consumers

    def probe(
        self, batches: Sequence[Batch], scores: Mapping[str, Tensor], limit: Limit | None = None
    ) -> UnitSensitivityProbe:
        """What tries out cuts of single groups with these scores; `sensitivity` notes what it measures."""
        return UnitSensitivityProbe(
            self.network,
            self.settings,
            self.groups,
            scores,
            batches,
            loss=self._loss,
            distance=self._distance,
            consumers=lambda graph: self.consumers(graph, batches),
            limit=limit,
            measured=self.sensitivity,
            store=self._store,
        )

    def _cuts(
        self, allocation: Allocation, scores: Mapping[str, Tensor], share: float, probe: SensitivityProbe | None
    ) -> dict[str, Cut]:
        given = probe if allocation.measures else None
        return allocation.allocate(scores, share, keep_at_least=self.settings.keep_at_least, probe=given)

    def too_low(self, limit: Limit, least: float) -> UsageError:
        """For a limit that what is left when all that may go is gone, `least`, does not meet."""
        held = sum(self.network.left(group) for group in held_by_statistics(self.network, self.settings))
        allow = f"let {held} more units go by {ALLOWING}; or " if held else ""
        asked = limit.written or f"{limit.most:,.6g}"
        return UsageError(
            f"pruning.budget.{limit.what} is {asked}, but {least:,.6g} are left when all that may go is gone"
            f"; {allow}raise it, let more go (limits, keep_at_least, include, exclude), or use a smaller model"
        )


def comparable(scores: Mapping[str, Tensor], how: Normalize, kinds: Mapping[str, object]) -> dict[str, Tensor]:
    """Scores (n,) of each group, of what is gone -inf, that groups can be compared by.

    `kinds`: equal for groups that are built alike. `rank` and `isomorphic` give ranks in (0, 1], of the group or of all
    groups of its kind (Fang et al., ECCV 2024).
    """
    if how == "none":
        return {name: score.double() for name, score in scores.items()}
    if how in ("rank", "isomorphic"):
        return _ranked(scores, {name: (kinds[name] if how == "isomorphic" else name) for name in scores})
    return {name: _scaled(score.double(), how) for name, score in scores.items()}


def kind_of(group: Group, analysis: Analysis) -> tuple[object, ...]:
    """Equal for groups with the same places: sizes of their tensors, which dimension, made or taken there."""
    shapes = {name: tuple(axis.size for axis in dims) for name, dims in analysis.tensors.items()}
    return tuple(sorted((shapes[place.tensor], place.dim, place.producer) for place in group.places))


def _scaled(score: Tensor, how: str) -> Tensor:
    there = score[score.isfinite()]
    if not there.numel():
        return score
    scale = there.abs().mean() if how == "mean" else there.abs().max()
    return score / scale if float(scale) > 0 else score


def _ranked(scores: Mapping[str, Tensor], kinds: Mapping[str, object]) -> dict[str, Tensor]:
    ranked = {name: score.double().clone() for name, score in scores.items()}
    for kind in dict.fromkeys(kinds.values()):
        names = [name for name in scores if kinds[name] == kind]
        joined = torch.cat([ranked[name] for name in names])
        there = joined.isfinite()
        order = joined[there].argsort(stable=True).argsort(stable=True)
        ranks = (order + 1).double() / max(int(there.sum()), 1)
        joined[there] = ranks.to(joined.dtype)
        for name, part in zip(names, torch.split(joined, [ranked[name].numel() for name in names]), strict=True):
            ranked[name] = part
    return ranked
