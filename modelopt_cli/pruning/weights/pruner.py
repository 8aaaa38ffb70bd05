"""One pruning: collect, score, cut, mask, compensate. What joins the axes of choice; knows none of the strategies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from modelopt_cli.pruning.allocating import allocate_weights
from modelopt_cli.pruning.allocations import Judge
from modelopt_cli.pruning.common.cuts import NOTHING, Cut
from modelopt_cli.pruning.common.distances import Distance, apart
from modelopt_cli.pruning.common.statistics import Needs, Statistics
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.weights.collection import collect
from modelopt_cli.pruning.weights.masking import Masking
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.losses import Loss


class Pruner:
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
        self.distance = distance
        self.module, self.settings, self.masking = module, settings, masking
        self._batches, self._loss, self._validation_loss, self._movement = batches, loss, validation_loss, movement
        self.sensitivity: list[tuple[str, float, float]] = []  # (tensor, share removed, validation loss), as measured

    def prune(self, target: float) -> None:
        """Remove the share `target` of all that may go (what is gone included), or what scores below it (threshold).

        Raises UsageError where the importance needs what a layer does not have.
        """
        gone, total = self.masking.gone
        passes = self.settings.weight_importance.passes() if self.settings.threshold is None else 1
        left = 1.0 - gone / max(total, 1)
        for place in range(1, passes + 1):
            part = (1.0 - target) / left if left else 0.0  # of what is left now stays at the end
            self._once(target if place == passes else 1.0 - left * part ** (place / passes))

    def _once(self, target: float) -> None:
        importance, structure, compensation = (
            self.settings.weight_importance,
            self.settings.mask_structure,
            self.settings.weight_compensation,
        )
        weights = self.masking.weights
        statistics = self._collected(importance.needs | compensation.needs)
        contributions = importance.contributions(weights, statistics)
        removed = self.masking.removed
        found = structure.keep(
            contributions,
            importance.merit,
            removed,
            lambda scores: self._cuts(scores, target, _WeightJudge(self, contributions, removed)),
        )
        masks = {name: found[name] for name in weights}
        dense = {name: weight.detach().clone() for name, weight in weights.items()} if compensation.needs else {}
        self.masking.set(masks)
        for name, weight in dense.items():
            self._compensate(name, weight, statistics)

    def _collected(self, needs: Needs) -> Statistics:
        found = collect(self.module, self.masking.weights, needs, self._batches, self._loss)
        if "movement" in needs and self._movement is not None:
            return Statistics({**found.values, "movement": self._movement})
        return found

    def _cuts(self, scores: Mapping[str, Tensor], target: float, judge: Judge) -> dict[str, Cut]:
        allocation = self.settings.chosen_allocation
        if allocation is None:
            return dict.fromkeys(scores, NOTHING)
        held = dict(scores)  # each is looked at several times, and a model's scores are no larger than the model
        return allocate_weights(
            allocation,
            held,
            {name: weight.numel() for name, weight in self.masking.weights.items()},
            target,
            keep_at_least=self.settings.keep_at_least,
            judge=judge if allocation.measures else None,
        )

    def outputs(self) -> list[Tensor]:
        """Of the calibration samples, batch by batch."""
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        try:
            with torch.no_grad():
                return [self.module(batch.inputs) for batch in self._batches()]
        finally:
            for part, mode in modes:
                part.training = mode

    def validation_loss(self) -> float:
        """As the module is."""
        return self._validation_loss()

    @torch.no_grad()
    def _compensate(self, name: str, dense: Tensor, statistics: Statistics) -> None:
        found = self.settings.weight_compensation.compensate(name, dense, self.masking.masks[name], statistics)
        self.masking.weights[name].copy_(found.weight)
        bias = dict(self.module.named_parameters()).get(name.removesuffix("weight") + "bias")
        if found.bias is not None and bias is not None and name.endswith("weight"):
            bias.add_(found.bias)


class _WeightJudge(Judge):
    """Cuts one tensor alone, looks at the model, and puts the weights back."""

    def __init__(self, pruner: Pruner, contributions: Mapping[str, Tensor], removed: Mapping[str, Tensor]) -> None:
        self._pruner, self._contributions, self._removed = pruner, contributions, removed
        self._dense: list[Tensor] | None = None

    def loss(self, name: str, cut: Cut) -> float:
        with self._cut(name, cut) as share:
            found = self._pruner.validation_loss()
        self._pruner.sensitivity.append((name, share, found))
        return found

    def damage(self, name: str, cut: Cut) -> float:
        if self._dense is None:
            self._dense = self._pruner.outputs()
        with self._cut(name, cut) as share:
            now = self._pruner.outputs()
        found = apart(self._dense, now, self._pruner.distance)
        self._pruner.sensitivity.append((name, share, found))
        return found

    @contextmanager
    def _cut(self, name: str, cut: Cut) -> Iterator[float]:
        """The share of the tensor that is gone meanwhile."""
        settings, removed = self._pruner.settings, self._removed
        own = {name: removed[name]} if name in removed else {}
        alone = {name: self._contributions[name]}
        keep = settings.mask_structure.keep(alone, settings.weight_importance.merit, own, lambda scores: {name: cut})
        mask, weight = keep[name], self._pruner.masking.weights[name]
        before = weight.detach().clone()
        with torch.no_grad():
            weight.masked_fill_(~mask, 0.0)
        try:
            yield 1.0 - int(mask.count_nonzero()) / max(mask.numel(), 1)
        finally:
            weight.data.copy_(before)


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Sequence[Batch]) -> None:
    """Measure the running statistics of every batch normalisation anew: plain means over these batches."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    if not layers:
        return
    momenta, modes = [layer.momentum for layer in layers], [(each, each.training) for each in module.modules()]
    module.eval()  # dropout stays out of it
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
        for each, mode in modes:
            each.training = mode
