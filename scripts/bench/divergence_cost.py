"""What `allocation: divergence` costs, in passes over calibration samples and CPU time: few cuts beside all levels.

    python scripts/bench/divergence_cost.py resnet20 --bench BENCH --speedups 2,3 --seeds 0,1,2 --images 512
    python scripts/bench/divergence_cost.py resnet56 --speedups 2 --images 256
    python scripts/bench/divergence_cost.py resnet50 --speedups 2 --images 16 --only few

BENCH is ../shared/bench/prune, whose README says which data it needs (BENCH_CIFAR, BENCH_CACHE); raw test accuracy is
by its weights and data. The other networks have random weights and outputs scaled to a deviation of 1, so of them only
time and passes are told. `all` tries every level of every group, as was done up to November 2026; all else is the same.
A pass is one over all calibration images; of a part of the network its multiply-accumulates count. They are counted
here, where nodes are run, beside what the program itself reports.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from _common import ROOT  # puts the repository on the path
from torch import Tensor, nn

from modelopt_cli.models.architectures import Shapes
from modelopt_cli.models.architectures.cifar_resnet import CifarResnet
from modelopt_cli.models.graph.network import Network
from modelopt_cli.models.graph.walk import run_node
from modelopt_cli.pruning.units import cut_store, sensitivity
from modelopt_cli.pruning.units.pruner import UnitPruner
from modelopt_cli.pruning.units.shrink import shrink
from tests.support.zoo import ResNet50, prepare

assert ROOT


class Subject:
    """A network, its calibration images, what keeps its width, and its accuracy where its weights are trained."""

    def __init__(self, name: str, bench: Path | None) -> None:
        self.accuracy: Callable[[nn.Module], float] | None = None
        if name == "resnet20":
            if bench is None:
                raise SystemExit("resnet20 needs --bench, the folder of the pruning bench")
            sys.path.insert(0, str(bench))
            import common  # type: ignore[import-not-found]

            given = common.Subject(name)
            self.module, self.images = given.dense(), given.calibration
            self.spared = {id(layer) for layer in given.keep_width(self.module)}
            self.accuracy = lambda module: common.accuracy(module, given.test_x, given.test_y)
            return
        torch.manual_seed(0)
        size = 224 if name == "resnet50" else 32
        if name == "resnet50":
            self.module = prepare(ResNet50(64, 1000))
            inner: tuple[str, ...] = ("conv1", "conv2")
        else:
            shapes = Shapes((3, 32, 32), 10, "classification")
            self.module = prepare(CifarResnet(depth=56).build(shapes, 0))
            inner = ("conv1",)
        layers = {
            path: layer for path, layer in self.module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
        }
        self.spared = {
            id(layer) for path, layer in layers.items() if "." not in path or path.rpartition(".")[2] not in inner
        }
        self.images = lambda count, seed: (
            torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)),
            None,
        )
        _soften(self.module, self.images(4, 0)[0])


@torch.no_grad()
def _soften(module: nn.Module, images: Tensor) -> None:
    """Scale the last layer, in place, so that outputs deviate by 1: else one class has it all, whatever is cut."""
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    deviation = module(images).std()
    for parameter in last.parameters():
        parameter.div_(deviation)


@contextmanager
def counted(macs: dict[str, int]) -> Iterator[list[float]]:
    """[multiply-accumulates of a sample that trying cuts out has run], while it goes on."""
    total, original = [0.0], run_node

    def counting(graph: Any, node: Any, own: Any, batches: Any) -> list[Any]:
        total[0] += macs.get(node.name, 0)
        return original(graph, node, own, batches)

    with mock.patch.object(sensitivity, "run_node", counting):
        yield total


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """CPU seconds of choosing, and passes that the program itself counts, while it goes on."""
    figures = {"choosing": 0.0, "reported": 0.0}
    original: Any = UnitPruner._kept

    def timing(self: UnitPruner, *given: Any) -> Any:
        start = time.process_time()
        kept = original(self, *given)
        figures["choosing"] += time.process_time() - start
        figures["reported"] += given[-1].passes
        return kept

    with mock.patch.object(UnitPruner, "_kept", timing):
        yield figures


def measured(subject: Subject, how: str, speedup: float, seed: int, count: int) -> dict[str, Any]:
    """One pruning to 1 / `speedup` of the operations."""
    inputs: Tensor = subject.images(count, seed)[0]
    costs = Network(copy.deepcopy(subject.module), inputs[:2]).costs
    macs = dict(costs.macs_of({}))
    pruning = {
        "budget": {"flops": 2.0 * sum(macs.values()) / speedup},
        "importance": {"type": "obs", "damping": 1e-3},
        "allocation": {"type": "divergence", "every_level": how == "all"},
        "compensation": {"type": "least_squares", "damping": 1e-3},
        "calibration": count,
        "exclude": [name for name, layer in subject.module.named_modules() if id(layer) in subject.spared],
    }
    cut_store.forget()  # what the other one has tried
    with counted(macs) as ran, timed() as figures:
        start = time.process_time()
        result = shrink(subject.module, inputs, pruning)
        whole = time.process_time() - start
    row = {"how": how, "speedup": speedup, "seed": seed, "passes": ran[0] / sum(macs.values()), **figures, "cpu": whole}
    if subject.accuracy is not None:
        row["raw"] = subject.accuracy(result.module.eval())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["resnet20", "resnet56", "resnet50"])
    parser.add_argument("--bench", type=Path)
    parser.add_argument("--speedups", default="2")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--only", choices=["few", "all"])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    subject, rows = Subject(given.network, given.bench), []
    print(" how  fewer seed  passes reported choosing s  whole s    raw")
    for seed in map(int, given.seeds.split(",")):
        for speedup in map(float, given.speedups.split(",")):
            for how in [given.only] if given.only else ["few", "all"]:
                row = measured(subject, how, speedup, seed, given.images)
                rows.append(row)
                raw = f"{row['raw']:6.2f}" if "raw" in row else "     –"
                print(
                    f"{how:>4} {speedup:6g} {seed:4d} {row['passes']:7.2f} {row['reported']:8.2f} "
                    f"{row['choosing']:10.1f} {row['cpu']:8.1f} {raw}",
                    flush=True,
                )
    if given.out:
        given.out.write_text(json.dumps({"network": given.network, "images": given.images, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
