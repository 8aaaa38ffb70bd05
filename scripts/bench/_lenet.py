"""LeNet-300-100 on MNIST for the pruning benchmarks: modelopt's experiment, and a plain loop with torch.nn.utils.prune.

The loop is what a user would write: torch's own global magnitude pruning, Adam, 3 epochs after each of 11 levels.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from _common import CONFIGS
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.models.files import checkpoints
from modelopt_cli.workflows import prune as workflow
from modelopt_cli.workflows import train
from modelopt_cli.workflows.shared import data_cache
from modelopt_cli.workflows.shared.context import Context

LEVELS = [0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.985, 0.99]
EPOCHS = 3  # after each level


def arguments(description: str | None) -> argparse.ArgumentParser:
    """`--mnist`, `--seeds`, `--out`."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--mnist", default=os.environ.get("MNIST"), help="folder of the IDX files; default: $MNIST")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N-1")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    return parser


def experiment(mnist: str, seed: int, *overrides: str, config: str = "mnist_lenet_prune") -> Experiment:
    """The configuration with this seed and all 60,000 images; its settings were chosen on a validation split."""
    os.environ["MNIST"] = mnist
    whole = ["data.splits.validation=0", f"seed={seed}", "device=cpu"]
    return Experiment.load(CONFIGS / f"{config}.yaml", [*whole, *overrides])


def dense(mnist: str, seed: int, folder: Path) -> Path:
    """The trained model's file."""
    path = folder / f"dense{seed}.pt"
    if not path.exists():
        checkpoints.save(path, train.run(experiment(mnist, seed), Context()).model)
    return path


def pruned(mnist: str, seed: int, start: Path, *overrides: str) -> dict[str, float]:
    """Metrics after pruning and recovery of the model in this file."""
    given = experiment(mnist, seed, f'model={{"type": "checkpoint", "path": "{start}"}}', *overrides)
    report = workflow.run(given, Context())
    return {**report.metrics, "seconds": report.seconds}


def tensors(mnist: str, seed: int) -> tuple[torch.Tensor, ...]:
    """(train inputs, train targets, test inputs, test targets), as modelopt's training sees them."""
    from modelopt_cli.training.inference import as_tensor, input_transform

    prepared = data_cache.prepared_data(experiment(mnist, seed))
    transform = input_transform(prepared.preprocessing, torch.device("cpu"))
    assert prepared.test is not None
    train_inputs, test_inputs = (
        transform(as_tensor(part.inputs)).flatten(1) for part in (prepared.train, prepared.test)
    )
    return train_inputs, as_tensor(prepared.train.targets), test_inputs, as_tensor(prepared.test.targets)


def network(start: Path) -> nn.Sequential:
    """The dense weights in a plain module."""
    module = checkpoints.load(start).model.layers
    return nn.Sequential(*module)


def linears(model: nn.Sequential) -> list[nn.Linear]:
    """Its matrices."""
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def prune_to(model: nn.Sequential, amount: float) -> None:
    """torch's global magnitude pruning, on top of what is gone already."""
    pairs = [(layer, "weight") for layer in linears(model)]
    total = sum(layer.weight.numel() for layer, _ in pairs)
    masks = [mask for mask in (getattr(layer, "weight_mask", None) for layer, _ in pairs) if mask is not None]
    zeroed = sum(int((mask == 0).sum()) for mask in masks)
    prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=round(total * amount) - zeroed)


def train_plain(model: nn.Sequential, data: tuple[torch.Tensor, ...], epochs: int, seed: int) -> None:
    """Adam, batches of 128, half a cosine."""
    inputs, targets = data[:2]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    steps = epochs * (len(inputs) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for batch in torch.split(order[: len(order) // 128 * 128], 128):
            loss = F.cross_entropy(model(inputs[batch]), targets[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Sequential, data: tuple[torch.Tensor, ...]) -> float:
    """Share of test images that are right."""
    return float((model(data[2]).argmax(1) == data[3]).float().mean())


def iterative(start: Path, data: tuple[torch.Tensor, ...], seed: int) -> dict[float, float]:
    """level -> test accuracy, of one model pruned to one level after another."""
    model, accuracies = network(start), {}
    for stage, level in enumerate(LEVELS):
        prune_to(model, level)
        train_plain(model, data, EPOCHS, seed + 100 + stage)
        accuracies[level] = accuracy(model, data)
    return accuracies


def mean_and_deviation(values: list[float]) -> str:
    """In percent."""
    percent = torch.tensor(values, dtype=torch.float64) * 100
    deviation = f" ± {float(percent.std()):.2f}" if len(values) > 1 else ""
    return f"{float(percent.mean()):.2f}{deviation}"


def averaged(values: list[float]) -> Any:
    """The mean."""
    return sum(values) / len(values)
