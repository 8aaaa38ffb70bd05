"""Small data and modules for the tests of training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from modelopt_cli.data.part import Part
from modelopt_cli.data.prepared import Prepared
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.data.raw import Task
from modelopt_cli.models.architectures import Shapes
from modelopt_cli.training.settings import TrainingSettings


def part(inputs: Any, targets: Any, weights: Any = None, start: int = 0) -> Part:
    return Part(inputs, targets, weights, np.arange(start, start + len(targets)))


def held(split: Part | None) -> Part:
    """A split that is there."""
    assert split is not None
    return split


def prepared(
    task: Task = "classification",
    counts: tuple[int, int, int] = (60, 30, 20),
    features: int = 5,
    outputs: int = 3,
    weighted: bool = False,
    seed: int = 0,
    **preprocessing: Any,
) -> Prepared:
    """Data that a linear model can learn."""
    rng = np.random.default_rng(seed)
    total = sum(counts)
    inputs = rng.normal(size=(total, features)).astype(np.float32)
    latent = inputs @ rng.normal(size=(features, outputs)) + 0.1 * rng.normal(size=(total, outputs))
    if task == "classification":
        targets = latent.argmax(1)
    elif task == "multilabel":
        targets = (latent > 0).astype(np.float32)
    else:
        targets = (100.0 + 20.0 * latent).astype(np.float32)
        mean, std = targets[: counts[0]].mean(0), targets[: counts[0]].std(0)
        preprocessing = {"target_mean": mean, "target_std": std, **preprocessing}
    weights = rng.uniform(0.1, 2.0, total).astype(np.float32) if weighted else None
    ends = np.cumsum(counts)
    parts = [
        part(inputs[a:b], targets[a:b], None if weights is None else weights[a:b], a) if b > a else None
        for a, b in zip([0, *ends[:-1]], ends, strict=True)
    ]
    train, validation, test = parts
    assert train is not None
    return Prepared(
        train,
        validation,
        test,
        shapes=Shapes((features,), outputs, task),
        task=task,
        label_names=tuple(f"c{i}" for i in range(outputs)),
        preprocessing=cast(Preprocessing, SimpleNamespace(**preprocessing)),
        fingerprint="",
    )


def mlp(features: int = 5, outputs: int = 3, *, norm: bool = False, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Linear(features, 16)]
    if norm:
        layers.append(nn.BatchNorm1d(16))
    layers.append(nn.ReLU())
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(16, outputs))


def settings(**given: Any) -> TrainingSettings:
    return TrainingSettings.model_validate({"epochs": 5, "batch_size": 16, **given})
