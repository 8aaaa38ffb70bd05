"""Channels of ResNet-20 and a small MNIST CNN, on the bench in ../shared/bench/prune: raw and fine-tuned accuracy.

    python scripts/bench/neurons_prune.py BENCH resnet20 --speedups 1.5,2,3 --seeds 0,1,2 --epochs 2
    python scripts/bench/neurons_prune.py BENCH mnist_cnn --speedups 2 --images 12000
    python scripts/bench/neurons_prune.py BENCH resnet20 --residual

BENCH is the folder of that bench; its README says which data it needs (BENCH_CIFAR, BENCH_MNIST, BENCH_CACHE). Its own
weights, counter of operations and fine-tuning are used, so that results stand beside those of the peers in its README.
--residual: the layers that the bench keeps, residual streams and all, may lose channels, too; before that, channel 3 of
ResNet-20's stem alone, with the channels of later stages that its zero-padded shortcuts tie to it.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.rewriting import error, silenced, slices
from modelopt_cli.pruning.units.shrink import shrink


def prune(
    model: nn.Module, subject: Any, target_macs: float, seed: int, images: int, residual: bool = False
) -> nn.Module:
    """What the bench asks of a tool; it sees calibration images alone."""
    inputs, _ = subject.calibration(images, seed)
    spared = set() if residual else {id(layer) for layer in subject.keep_width(model)}
    pruning = {
        "budget": {"flops": 2.0 * target_macs},
        "importance": {"type": "obs", "damping": 1e-3},
        "allocation": "divergence",
        "compensation": {"type": "least_squares", "damping": 1e-3},
        "calibration": images,
        "exclude": [name for name, layer in model.named_modules() if id(layer) in spared],
    }
    return shrink(model, inputs, pruning).module.eval()


def one_channel(subject: Any, channel: int = 3) -> dict[str, float]:
    """A channel of the residual stream silenced, and removed: largest difference, and test accuracy of both."""
    network = Network(subject.dense(), subject.train_x[:16])
    stem = next(group for group in network.groups if group.name == "conv1")
    keep = {stem.prime: np.arange(stem.size) != channel}
    silent = silenced(network.captured.graph, network.analysis, keep)
    removed = network.without(keep)
    figures = {
        "error": error(network.captured.graph, network.analysis, keep, subject.test_x[:500]),
        "tensors": len(slices(network.analysis, keep)),
        "dense": _accuracy(subject.dense(), subject),
        "silenced": _accuracy(silent, subject),
        "removed": _accuracy(removed, subject),
    }
    print(" ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)
    return figures


@torch.no_grad()
def _accuracy(module: nn.Module, subject: Any, batch: int = 500) -> float:
    """As the bench's own, but a graph has no eval mode to be put into."""
    inputs, targets = subject.test_x.split(batch), subject.test_y.split(batch)
    hits = sum(int((module(x).argmax(1) == y).sum()) for x, y in zip(inputs, targets, strict=True))
    return 100.0 * hits / len(subject.test_y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("subject", choices=["resnet20", "mnist_cnn"])
    parser.add_argument("--speedups", default="2")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--residual", action="store_true", help="everything may lose channels")
    parser.add_argument("--out", type=Path, default=Path("neurons_prune.json"))
    given = parser.parse_args()
    sys.path.insert(0, str(given.bench))
    import common  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    subject = common.Subject(given.subject)
    dense = subject.dense()
    macs, _ = common.macs_params(dense, subject.example)
    rows = []
    channel = one_channel(subject) if given.residual and given.subject == "resnet20" else None
    print(f"{'fewer':>6} {'seed':>4} {'reached':>8} {'raw':>6} {'tuned':>6} {'seconds':>8}")
    for seed in map(int, given.seeds.split(",")):
        for speedup in map(float, given.speedups.split(",")):
            start = time.perf_counter()
            model = prune(copy.deepcopy(dense), subject, macs / speedup, seed, given.images, given.residual)
            seconds = time.perf_counter() - start
            left, _ = common.macs_params(model, subject.example)
            raw = common.accuracy(model, subject.test_x, subject.test_y)
            rate = 0.02 if given.subject == "resnet20" else 0.01
            common.train(
                model,
                subject.train_x,
                subject.train_y,
                given.epochs,
                lr=rate,
                wd=1e-4,
                seed=seed,
                images=10000,
                augment=subject.augment,
            )
            tuned = common.accuracy(model, subject.test_x, subject.test_y)
            row = {"speedup": speedup, "seed": seed, "reached": macs / left, "raw": raw, "tuned": tuned}
            rows.append({**row, "seconds": seconds})
            print(f"{speedup:6g} {seed:4d} {macs / left:8.3f} {raw:6.2f} {tuned:6.2f} {seconds:8.1f}", flush=True)
    record = {"subject": given.subject, "images": given.images, "one_channel": channel, "rows": rows}
    given.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
