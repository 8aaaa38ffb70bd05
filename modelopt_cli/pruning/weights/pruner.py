"""One pruning of weights: collect, score, cut, mask, compensate. Joins the axes of choice; knows no strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from modelopt_cli.core.work import counted
from modelopt_cli.models.modes import evaluating
from modelopt_cli.pruning.allocations import ProbedCuts, SensitivityProbe
from modelopt_cli.pruning.common.cuts import NOTHING, Cut, lowest
from modelopt_cli.pruning.common.distances import Distance, apart
from modelopt_cli.pruning.common.statistics import Needs, Statistics
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.structures import Cutter
from modelopt_cli.pruning.weights.collection import collect
from modelopt_cli.pruning.weights.masking import Masking
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss


class WeightPruner:
    """Prunes the weights of `masking` in `module`, ever further."""

    def __init__(
        self,
        module: nn.Module,
        settings: PruningSettings,
        masking: Masking,
        *,
        batches: Callable[[], Sequence[Batch]],
        loss: Loss,
        validation_loss: Callable[[], float],
        distance: Distance,
        movement: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`batches`: calibration samples; `movement`: the sums of a MovementMeter, where the importance needs them."""
        self.module, self.settings, self.masking = module, settings, masking
        self._batches, self._loss, self._movement = batches, loss, movement
        self._validation_loss, self._distance = validation_loss, distance
        self.sensitivity: ProbedCuts = []  # as an allocation measured it
        self.passes = 0.0  # that it took for that

    def prune(self, target: float) -> None:
        """Remove the share `target` of all that may go (what is gone included), or what scores below it (threshold).

        Raises UsageError where the importance needs what a layer does not have.
        """
        zero, total = self.masking.counts
        passes = self.settings.weight_importance.passes() if self.settings.threshold is None else 1
        left = 1.0 - zero / max(total, 1)
        for number in range(1, passes + 1):
            part = (1.0 - target) / left if left else 0.0  # of what is left now stays at the end
            self._once(target if number == passes else 1.0 - left * part ** (number / passes))

    def _once(self, target: float) -> None:
        importance, structure, compensation = (
            self.settings.weight_importance,
            self.settings.mask_structure,
            self.settings.weight_compensation,
        )
        weights = self.masking.weights
        statistics = self.collected(importance.needs | compensation.needs)
        contributions = importance.contributions(weights, statistics)
        removed = self.masking.removed
        probe = _WeightProbe(
            self.module,
            self.settings,
            weights,
            contributions,
            removed,
            batches=self._batches,
            validation_loss=self._validation_loss,
            distance=self._distance,
            measured=self.sensitivity,
        )

        def cut(scores: Mapping[str, Tensor]) -> dict[str, Cut]:
            return self._cuts(scores, target, probe)

        kept = structure.keep(contributions, importance.merit, removed, cut)
        masks = {name: kept[name] for name in weights}
        self.passes += probe.passes
        dense = {name: weight.detach().clone() for name, weight in weights.items()} if compensation.needs else {}
        self.masking.set(masks)
        for name, weight in counted(dense.items(), "layers refitted"):
            self._compensate(name, weight, statistics)

    def collected(self, needs: Needs) -> Statistics:
        """What is needed, of the weights as they are, on the calibration samples."""
        statistics = collect(self.module, self.masking.weights, needs, self._batches, self._loss)
        if "movement" in needs and self._movement is not None:
            return Statistics({**statistics.values, "movement": self._movement})
        return statistics

    def _cuts(self, scores: Mapping[str, Tensor], target: float, probe: SensitivityProbe) -> dict[str, Cut]:
        allocation = self.settings.chosen_allocation
        if allocation is None:
            return dict.fromkeys(scores, NOTHING)
        held = dict(scores)  # each is looked at several times, and a model's scores are no larger than the model
        return allocation.allocate_weights(
            held,
            {name: weight.numel() for name, weight in self.masking.weights.items()},
            target,
            keep_at_least=self.settings.keep_at_least,
            probe=probe if allocation.measures else None,
        )

    @torch.no_grad()
    def _compensate(self, name: str, dense: Tensor, statistics: Statistics) -> None:
        changed = self.settings.weight_compensation.compensate(name, dense, self.masking.masks[name], statistics)
        self.masking.weights[name].copy_(changed.weight)
        bias = dict(self.module.named_parameters()).get(name.removesuffix("weight") + "bias")
        if changed.bias is not None and bias is not None and name.endswith("weight"):
            bias.add_(changed.bias)


class _WeightProbe(SensitivityProbe):
    """Cuts one tensor alone, looks at the model, and puts the weights back. `measured`: what it saw is added to it."""

    def __init__(
        self,
        module: nn.Module,
        settings: PruningSettings,
        weights: Mapping[str, nn.Parameter],
        contributions: Mapping[str, Tensor],
        removed: Mapping[str, Tensor],
        *,
        batches: Callable[[], Sequence[Batch]],
        validation_loss: Callable[[], float],
        distance: Distance,
        measured: ProbedCuts,
    ) -> None:
        self._module, self._settings, self._weights = module, settings, weights
        self._contributions, self._removed = contributions, removed
        self._batches, self._validation_loss, self._distance = batches, validation_loss, distance
        self._measured = measured
        self._before: list[Tensor] | None = None
        self._untouched: float | None = None  # the loss when nothing is cut

    def loss(self, name: str, cut: Cut) -> float:
        with self._cut(name, cut) as (share, changed):
            if changed or self._untouched is None:
                loss = self._validation_loss()
                self.passes += 1.0
            else:
                loss = self._untouched
        if not changed:
            self._untouched = loss
        self._measured.append((name, share, loss))
        return loss

    def output_error(self, name: str, cut: Cut) -> float:
        if self._before is None:
            self._before = self._outputs()
        with self._cut(name, cut) as (share, _):
            now = self._outputs()
        error = apart(self._before, now, self._distance)
        self._measured.append((name, share, error))
        return error

    def shape(self, name: str, counts: Sequence[int]) -> Sequence[float] | None:
        """-log of the share that is left of the sum of the tensor's squares."""
        squares = self._weights[name].detach().double().square()
        whole = max(float(squares.sum()), 1e-300)

        def lost(count: int) -> float:
            return float(squares[~self._mask(name, lambda scores: {name: lowest(scores[name], count)})].sum()) / whole

        return [-math.log(max(1.0 - lost(count), 1e-9)) for count in counts]

    @torch.no_grad()
    def _outputs(self) -> list[Tensor]:
        """Of the calibration samples, batch by batch."""
        self.passes += 1.0
        with evaluating(self._module):
            return [self._module(batch.inputs) for batch in self._batches()]

    @contextmanager
    def _cut(self, name: str, cut: Cut) -> Iterator[tuple[float, bool]]:
        """The share of the tensor that is gone meanwhile, and whether that changes a weight."""
        mask, weight = self._mask(name, lambda scores: {name: cut}), self._weights[name]
        before = weight.detach().clone()
        with torch.no_grad():
            weight.masked_fill_(~mask, 0.0)
        try:
            yield 1.0 - int(mask.count_nonzero()) / max(mask.numel(), 1), not torch.equal(weight, before)
        finally:
            weight.data.copy_(before)

    def _mask(self, name: str, cut: Cutter) -> Tensor:
        """True where a weight stays, when this tensor alone is cut."""
        settings, removed = self._settings, self._removed
        own = {name: removed[name]} if name in removed else {}
        alone = {name: self._contributions[name]}
        return settings.mask_structure.keep(alone, settings.weight_importance.merit, own, cut)[name]


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Sequence[Batch]) -> None:
    """Measure the running statistics of every batch normalisation anew: plain means over these batches."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    with evaluating(module):  # dropout stays out of it
        try:
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # a mean over all batches
                layer.train()
            for batch in batches:
                if len(batch.inputs) > 1:
                    module(batch.inputs)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
