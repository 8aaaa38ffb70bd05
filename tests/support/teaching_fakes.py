"""A small teacher, a smaller student and images that both can learn, for the tests of criteria."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelopt_cli.data.augmentations.jitter import Jitter
from modelopt_cli.data.part import Part
from modelopt_cli.data.prepared import Prepared
from modelopt_cli.data.raw import Task
from modelopt_cli.distillation import cache
from modelopt_cli.distillation.settings import Guidance
from modelopt_cli.distillation.teacher_criterion import TeacherCriterion
from modelopt_cli.models.architectures import Shapes
from modelopt_cli.training.criterion import Criterion
from modelopt_cli.training.settings import TrainingSettings
from modelopt_cli.training.trainer import Trainer

SAMPLES, CLASSES = 26, 4


def images(task: Task = "classification", samples: int = SAMPLES) -> Prepared:
    """(N, 1, 6, 6) images; no two alike. Indices are not places in the split, and not in order."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(samples + 10, 1, 6, 6)).astype(np.float32)
    latent = inputs.reshape(len(inputs), -1) @ rng.normal(size=(36, CLASSES))
    targets: Any = latent.argmax(1) if task == "classification" else latent.astype(np.float32)
    if task == "multilabel":
        targets = (latent > 0).astype(np.float32)
    indices = rng.permutation(samples + 30)[: samples + 10]
    train, validation = (
        Part(inputs[a:b], targets[a:b], None, indices[a:b]) for a, b in ((0, samples), (samples, samples + 10))
    )
    return Prepared(
        train,
        validation,
        None,
        shapes=Shapes((1, 6, 6), CLASSES, task),
        task=task,
        label_names=(),
        preprocessing=SimpleNamespace(),  # type: ignore[arg-type]
        fingerprint="",
    )


def network(width: int, seed: int, *, dropout: float = 0.0) -> nn.Sequential:
    """Maps, then a head. Batch normalisation and dropout tell training mode from evaluation."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(),
        nn.Linear(16 * width, CLASSES),
    )  # fmt: skip


def teacher(seed: int = 5) -> nn.Sequential:
    """With statistics of batch normalisation that are not those of a new network."""
    module = network(6, seed)
    with torch.no_grad():
        module(torch.randn(200, 1, 6, 6, generator=torch.Generator().manual_seed(seed)))
    return module.eval()


def student(seed: int = 1) -> nn.Sequential:
    return network(3, seed, dropout=0.2)


class Counting(nn.Module):
    """Counts what the module inside is asked, and keeps it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.asked: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked.append(inputs.detach().clone())
        maps: Tensor = self.module(inputs)
        return maps


LABELS_AND_SOFT = ({"type": "labels", "weight": 0.1}, {"type": "soft_targets", "weight": 0.9})


def guidance(losses: Any = LABELS_AND_SOFT, **given: Any) -> Guidance:
    return Guidance.model_validate({"losses": losses, **given})


def criterion(
    *teachers: nn.Module,
    losses: Any = None,
    data: str = "d",
    folder: Path | None = None,
    task: Task = "classification",
    **given: Any,
) -> TeacherCriterion:
    settings = guidance(**given) if losses is None else guidance(losses, **given)
    return TeacherCriterion(settings, teachers or [teacher()], task, data=data, folder=folder)


def trainer(
    chosen: Criterion | None,
    module: nn.Module | None = None,
    *,
    data: Prepared | None = None,
    seed: int = 3,
    **given: Any,
) -> Trainer:
    augment = given.pop("augment", ())
    settings = TrainingSettings.model_validate(
        {"epochs": 4, "batch_size": 8, "optimizer": {"type": "sgd", "lr": 0.05, "momentum": 0.9}, **given}
    )
    return Trainer(
        module or student(), settings, data or images(), seed=seed, device="cpu", augment=augment, criterion=chosen
    )


def trained(chosen: Criterion | None, module: nn.Module | None = None, **given: Any) -> dict[str, Tensor]:
    """The student's weights after the training."""
    fitted = trainer(chosen, module, **given)
    fitted.advance(fitted.epochs)
    return {name: tensor.clone() for name, tensor in fitted.module.state_dict().items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def differ(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return any(not torch.equal(tensor, second[name]) for name, tensor in first.items())


def through_pickle(state: Any) -> Any:
    return pickle.loads(pickle.dumps(state))


JITTER = (Jitter(pixels=2),)
forget = cache.MEMORY.clear
