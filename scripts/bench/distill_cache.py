"""An epoch of the student: alone, with its teacher's outputs kept in memory or on disk, and with the teacher asked.

CPU seconds of one thread, contenders in turns, epoch by epoch; shown are medians, and the median over the turns of each
one's share of plain training (goal in memory: at most 1.1). The first epoch, which fills the cache, stands apart. What
is descended is the default, 0.1 labels and 0.9 soft_targets; in the last pair labels and attention_transfer, so that
maps are kept. Teachers have random weights: what they say does not matter here. `formula` is what the loss itself
costs: the same sum in three lines of torch (F.kl_div), the teacher's outputs in a tensor, in the same training loop.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from _common import interleave, ratio, show, verdict, write
from _distill import experiment, mnist
from torch import Tensor
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.models.architectures import Architecture
from modelopt_cli.training.batches import Batch
from modelopt_cli.training.criterion import Criterion, CriterionContext, StepInfo
from modelopt_cli.workflows.distillation import criteria
from modelopt_cli.workflows.runs.torch import TorchRun
from modelopt_cli.workflows.shared import data_cache

PLAIN, MEMORY, FORMULA, GOAL = "plain", "memory", "formula", 1.1
CACHES: dict[str, dict[str, Any] | None] = {
    PLAIN: None,
    MEMORY: {"where": "memory"},
    "disk": {"where": "disk"},
    "top 3 of 10": {"where": "memory", "top_k": 3},
    "live": {"where": "none"},
}
SOFT = [{"type": "labels", "weight": 0.1}, {"type": "soft_targets", "temperature": 4.0, "weight": 0.9}]
MAPS: list[dict[str, Any]] = [
    {"type": "labels"},
    {"type": "attention_transfer", "taps": ["features.3", "features.7"], "weight": 1000},
]
TEACHER = {"type": "mlp", "hidden": [1200, 1200]}
LARGE: dict[str, Any] = {"type": "cnn", "channels": [32, 64]}
SMALL: dict[str, Any] = {"type": "cnn", "channels": [8, 16]}
# pair -> images, batch, teacher, student, losses
PAIRS: dict[str, tuple[int, int, dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = {
    "784-800-800-10": (10_000, 256, TEACHER, {"type": "mlp", "hidden": [800, 800]}, SOFT),
    "784-32-10": (10_000, 256, TEACHER, {"type": "mlp", "hidden": [32]}, SOFT),
    "cnn [8, 16]": (4_000, 64, LARGE, SMALL, SOFT),
    "cnn [8, 16], maps": (4_000, 64, LARGE, SMALL, MAPS),
}


class Formula(Criterion):
    """0.1 labels + 0.9 T² KL at T = 4, as one would write it by hand."""

    def __init__(self, teacher: torch.nn.Module) -> None:
        self._teacher = teacher
        self._logits = torch.empty(0)

    def begin(self, context: CriterionContext) -> None:
        train = context.batches.split
        with torch.no_grad():
            self._logits = self._teacher.eval()(context.batches.transform(train.inputs))
        self._places = torch.zeros(int(train.indices.max()) + 1, dtype=torch.int64)
        self._places[train.indices] = torch.arange(len(train))

    def loss(self, batch: Batch, outputs: Tensor, label_loss: Callable[[], Tensor], step_info: StepInfo) -> Tensor:
        teacher = self._logits[self._places[batch.indices]]
        soft = F.kl_div(F.log_softmax(outputs / 4, 1), F.softmax(teacher / 4, 1), reduction="batchmean")
        return 0.1 * label_loss() + 0.9 * 16 * soft


def contenders(pair: str, source: Path, folder: Path) -> tuple[dict[str, Callable[[], float]], dict[str, float]]:
    """Name -> an epoch more of that training, timed; and the first epochs' seconds."""
    images, batch, teacher, student, losses = PAIRS[pair]
    training = {"epochs": 1000, "batch_size": batch, "evaluate_every": 1000, "optimizer": {"type": "adam", "lr": 0.001}}
    data = mnist(source, folder, images)
    later, first = {}, {}
    for name, cache in CACHES.items():
        distillation = {"teacher": {"model": teacher, "training": {}}, "losses": losses, "cache": cache or {}}
        made = experiment(data, student, training, distillation)
        prepared = data_cache.prepared_data(made)
        architecture = FAMILIES["models"].get(teacher["type"])(
            **{key: teacher[key] for key in teacher if key != "type"}
        )
        assert isinstance(architecture, Architecture)
        torch.manual_seed(0)
        teacher_outputs = [architecture.build(prepared.shapes, 0)]
        criterion = None if cache is None else criteria.criterion_of(made, teacher_outputs, prepared, 0, folder / pair)
        later[name] = _epoch(TorchRun(made, prepared, seed=0, criterion=criterion))
        first[name] = later[name]()
        if cache is None and losses is SOFT:
            later[FORMULA] = _epoch(TorchRun(made, prepared, seed=0, criterion=Formula(teacher_outputs[0])))
            first[FORMULA] = later[FORMULA]()
    return later, first


def _epoch(run: TorchRun) -> Callable[[], float]:
    def measure() -> float:
        start = time.process_time()
        run.advance(run.step + 1)
        return time.process_time() - start

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mnist", type=Path, default=os.environ.get("MNIST"), help="the IDX files; default: $MNIST")
    parser.add_argument("--repeats", type=int, default=9, help="epochs of each contender; default 9")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures, goals = {}, []
    for pair in PAIRS:
        with TemporaryDirectory() as folder:
            measured, first = contenders(pair, args.mnist, Path(folder))
            times = interleave(measured, args.repeats)
        figures[pair] = {"epochs": times, "first": first}
        lines = [
            [name, f"{median(values):.3f}", f"{ratio(times, name, PLAIN):.3f}", f"{first[name]:.3f}"]
            for name, values in times.items()
        ]
        show(f"{pair}: CPU s an epoch", ["teacher's outputs", "median", "of plain", "first epoch"], lines)
        if PAIRS[pair][-1] is SOFT:
            goals.append(verdict(f"{pair}: in memory, of plain training", ratio(times, MEMORY, PLAIN), GOAL))
    write(args.out, "distill_cache", figures, goals)


if __name__ == "__main__":
    main()
