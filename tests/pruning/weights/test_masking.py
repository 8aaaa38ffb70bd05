"""Masks stay exact through training: with every optimizer, momentum, decay and clipping, at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.data.part import Part
from modelopt_cli.data.prepared import Prepared
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.models.architectures import Shapes
from modelopt_cli.pruning.common.distances import divergence
from modelopt_cli.pruning.importances import WeightImportance
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.weights.masking import Masking
from modelopt_cli.pruning.weights.pruner import WeightPruner
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.hooks import StepHook
from modelopt_cli.training.settings import TrainingSettings
from modelopt_cli.training.trainer import Trainer

DENSE = [name for name in FAMILIES["optimizers"].names() if name != "sparse_adam"]  # which takes sparse gradients alone


def prepared() -> Prepared:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 6)).astype(np.float32)
    targets = (inputs @ rng.normal(size=(6, 3))).argmax(1)
    parts = [Part(inputs[a:b], targets[a:b], None, np.arange(a, b)) for a, b in ((0, 60), (60, 80), (80, 90))]
    shapes = Shapes((6,), 3, "classification")
    train, validation, test = parts
    return Prepared(
        train,
        validation,
        test,
        shapes=shapes,
        task="classification",
        label_names=("a", "b", "c"),
        preprocessing=Preprocessing("arrays", "classification", (6,)),
        fingerprint="",
    )


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))


def half_masked(module: nn.Module) -> Masking:
    weights = {name: weight for name, weight in module.named_parameters() if weight.ndim > 1}
    generator = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(weight.shape, generator=generator) < 0.5 for name, weight in weights.items()}
    masks["3.weight"][0] = True  # every hidden unit reaches an output, so every weight that stays has a gradient
    return Masking(weights, masks)


class Watch(StepHook):
    """After every optimizer step: what is gone must be +0.0."""

    def __init__(self, masking: Masking) -> None:
        self.masking, self.steps, self.gradients = masking, 0, 0

    def after_backward(self) -> None:
        self.gradients += 1
        for name, weight in self.masking.weights.items():
            assert weight.grad is not None
            assert not bool(weight.grad[~self.masking.masks[name]].any())

    def after_step(self) -> None:
        self.steps += 1
        for name, weight in self.masking.weights.items():
            assert not bool(weight[~self.masking.masks[name]].any()), f"step {self.steps} moved {name}"


def trained(module: nn.Module, hooks: list[StepHook], epochs: int = 2, **given: Any) -> Trainer:
    settings = TrainingSettings.model_validate({"epochs": epochs, "batch_size": 16, **given})
    trainer = Trainer(module, settings, prepared(), seed=0, device="cpu", hooks=hooks)
    trainer.advance(epochs)
    return trainer


def with_all_that_moves_weights(name: str) -> dict[str, Any]:
    """The optimizer with momentum and weight decay where it has them."""
    fields = FAMILIES["optimizers"].get(name).model_fields
    wanted = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "lambd": 0.1}
    return {"type": name, **{key: value for key, value in wanted.items() if key in fields}}


@pytest.mark.slow
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("name", DENSE)
def test_no_masked_weight_moves_and_the_others_do(name: str, clip_norm: float | None) -> None:
    module = mlp()
    masking = half_masked(module)
    before = {name: weight.detach().clone() for name, weight in masking.weights.items()}
    watch = Watch(masking)
    trained(module, [masking, watch], optimizer=with_all_that_moves_weights(name), clip_norm=clip_norm)
    assert watch.steps == 8
    assert watch.gradients >= 8
    for layer, weight in masking.weights.items():
        mask = masking.masks[layer]
        assert bool((weight[~mask] == 0).all())
        assert 0.3 < float(mask.float().mean()) < 0.8
        assert bool((weight[mask] != before[layer][mask]).all())


def test_momentum_from_before_the_pruning_moves_nothing_that_is_gone() -> None:
    """Pruned in the middle of a training, as cubic does it: the optimizer remembers the weights that went."""

    class Later(StepHook):
        def before_step(self, step: int, steps: int) -> None:
            if step in (5, 9):
                grown = {}
                for name, weight in masking.weights.items():
                    size = weight.detach().abs()
                    grown[name] = masking.masks[name] & (size > size.median())
                masking.set(grown)

    module = mlp()
    masking = Masking({name: weight for name, weight in module.named_parameters() if weight.ndim > 1})
    trained(module, [Later(), masking, Watch(masking)], 4, optimizer={"type": "sgd", "lr": 0.1, "momentum": 0.95})
    zeroed, total = masking.counts
    assert zeroed >= 0.5 * total
    assert all(bool((weight[~masking.masks[name]] == 0).all()) for name, weight in masking.weights.items())


def test_gradients_of_what_is_gone_do_not_count_in_the_clipped_norm() -> None:
    """One step with clip_norm: what stays moves by lr * clip / (norm over what stays)."""
    module = mlp()
    masking = half_masked(module)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    trainer = trained(
        module, [masking], 1, batch_size=60, clip_norm=0.01, optimizer={"type": "sgd", "lr": 1.0}, shuffle=False
    )
    after = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    moved = torch.cat([(after[name] - before[name]).reshape(-1) for name in before])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-4)
    assert trainer.steps == 1


def test_a_mask_of_ones_changes_no_training() -> None:
    masked, plain = mlp(), mlp()
    masking = Masking({name: weight for name, weight in masked.named_parameters() if weight.ndim > 1})
    assert masking.removed == {}
    trained(masked, [masking], 3)
    trained(plain, [], 3)
    for first, second in zip(masked.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(first, second)


def test_masking_equals_a_loop_that_multiplies_by_the_mask() -> None:
    """torch.nn.utils.prune's reparametrisation, w = w_orig * mask, with SGD: what stays is the same to the bit."""
    from torch.nn.utils import prune

    ours, theirs = mlp(), mlp()
    masking = half_masked(ours)
    for position, name in ((0, "0.weight"), (3, "3.weight")):
        prune.custom_from_mask(theirs[position], "weight", masking.masks[name])  # type: ignore[index]
    optimizer = {"type": "sgd", "lr": 0.1, "momentum": 0.9}
    trained(ours, [masking], 3, optimizer=optimizer)
    trained(theirs, [], 3, optimizer=optimizer)
    for position in (0, 3):
        kept: Tensor = masking.masks[f"{position}.weight"]
        own_weight: Tensor = ours[position].weight.detach()  # type: ignore[index]
        torch.testing.assert_close(own_weight[kept], theirs[position].weight_orig.detach()[kept], rtol=0, atol=0)  # type: ignore[index]


def test_applied_at_once_counted_and_positive_zeros() -> None:
    weight = nn.Parameter(torch.tensor([[-1.0, 2.0], [-3.0, 4.0]]))
    masking = Masking({"w": weight}, {"w": torch.tensor([[False, True], [False, True]])})
    assert masking.counts == (2, 4)
    assert torch.equal(masking.removed["w"], torch.tensor([[True, False], [True, False]]))
    assert not bool(torch.signbit(weight).any())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FAMILIES["importances"].names()
        if issubclass(FAMILIES["importances"].get(name), WeightImportance)
    ],
)
def test_what_is_gone_stays_gone_and_the_next_pruning_counts_it(name: str) -> None:
    module, data = mlp(), prepared().train
    masking = Masking({layer: weight for layer, weight in module.named_parameters() if weight.ndim > 1})
    batch = Batch(torch.from_numpy(data.inputs), torch.from_numpy(data.targets), None, torch.arange(60))
    pruner = WeightPruner(
        module,
        PruningSettings.model_validate({"amount": 0.5, "importance": name}),
        masking,
        batches=lambda: [batch],
        loss=lambda outputs, targets, weights: F.cross_entropy(outputs, targets),
        validation_loss=lambda: 0.0,
        distance=divergence,
        movement={layer: weight.detach().clone() for layer, weight in masking.weights.items()},
    )
    pruner.prune(0.3)
    first = {layer: mask.clone() for layer, mask in masking.masks.items()}
    assert masking.counts == (round(0.3 * 108), 108)
    pruner.prune(0.8)
    assert masking.counts == (round(0.8 * 108), 108)
    assert all(not bool((mask & ~first[layer]).any()) for layer, mask in masking.masks.items())
    assert all(bool((weight[~masking.masks[layer]] == 0).all()) for layer, weight in masking.weights.items())
