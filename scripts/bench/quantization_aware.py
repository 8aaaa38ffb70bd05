"""Quantisation-aware recovery on ResNet-20 and CIFAR-10 JPEG, beside what it has to beat at the same epochs.

    python scripts/bench/quantization_aware.py ../shared/bench/prune --out FILE

The bench's network, dense and pruned to a third of its operations (obs, divergence, least squares, then two epochs on
the labels), quantized statically with a scale for each channel, with one scale for each weight, and with one scale and
7 bits (`reduce_range`), all layers. Of each:

    float              before it is quantized
    int8               after training, as it is
    trained on, int8   an epoch of training in float on the labels, with the same settings, then int8
    aware, labels      an epoch of quantisation-aware recovery on the labels, then int8
    aware, taught      the same, with the network in float as the teacher as well as the labels

Epochs have 10,000 images. Accuracy in percent of the 10,000 test images, of the file, in ONNX Runtime. BENCH_CIFAR and
BENCH_CACHE say where the bench's data are, as its README says.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from _common import ROOT, show, write
from compress_cifar import pruned
from torch import nn

from modelopt_cli.data.prepared import Prepared
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.workflows.quantization.run import QuantizeRun
from modelopt_cli.workflows.runs.torch import trainer_of
from modelopt_cli.workflows.shared import data_cache

assert ROOT
METHODS: dict[str, dict[str, Any]] = {
    "per channel": {"type": "static"},
    "one scale": {"type": "static", "per_channel": False},
    "one scale, 7 bits": {"type": "static", "per_channel": False, "reduce_range": True},
}
RECOVERIES: dict[str, dict[str, Any] | None] = {
    "int8": None,
    "aware, labels": {"when": "always", "distillation": None},
    "aware, taught": {"when": "always"},
}
TRAIN, VALIDATION = 10_000, 2_000
DATA = """\
import sys

import numpy as np

from modelopt_cli.data.raw import RawData


def images(bench, count, seed):
    sys.path.insert(0, bench)
    import common

    given = common.Subject("resnet20")
    pick = np.random.default_rng(seed).permutation(len(given.train_x))[:count]
    inputs = np.concatenate([given.train_x[pick].numpy(), given.test_x.numpy()])
    targets = np.concatenate([given.train_y[pick].numpy(), given.test_y.numpy()])
    names = tuple(str(number) for number in range(10))
    return RawData(inputs, targets, "classification", names, test_indices=np.arange(count, len(inputs)))
"""


def experiment(bench: Path, folder: Path, epochs: int, rate: float) -> Experiment:
    """The file, before it says how it is quantized."""
    (folder / "bench_images.py").write_text(DATA, encoding="utf-8")
    arguments = {"bench": str(bench.resolve()), "count": TRAIN + VALIDATION, "seed": 0}
    return Experiment.load(
        {
            "data": {
                "type": "python",
                "target": "bench_images:images",
                "folder": str(folder),
                "arguments": arguments,
                "standardize": False,
                "augment": ["flip", {"type": "crop", "padding": 4}],
                "splits": {"validation": VALIDATION / (TRAIN + VALIDATION)},
            },
            "model": {"type": "cifar_resnet", "depth": 20},
            "training": {
                "epochs": epochs,
                "batch_size": 128,
                "optimizer": {"type": "sgd", "lr": rate, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
                "schedule": "cosine",
                "keep": "last",
            },
            "quantization": {"max_drop": None},
        }
    )


def trained_on(chosen: Experiment, data: Prepared, module: nn.Module, seed: int) -> nn.Module:
    """A copy after the training section, in float."""
    made = copy.deepcopy(module)
    trainer = trainer_of(chosen, data, made, chosen.require_training(), seed=seed)
    trainer.advance(trainer.epochs)
    trainer.finish()
    return trainer.module.eval()


def quantized(chosen: Experiment, data: Prepared, module: nn.Module, seed: int) -> tuple[float, float]:
    """(percent right in float, percent right as the file), on test."""
    run = QuantizeRun(chosen, data, seed=seed, module=module)
    run.advance(run.total)
    judged = run.test_metrics()
    right = 100 * judged["test.accuracy"]
    return right + 100 * judged["test.accuracy_drop"], right


def rows(bench: Path, networks: list[str], seeds: list[int], rate: float) -> list[dict[str, Any]]:
    """One a network, method, contender and seed."""
    sys.path.insert(0, str(bench))
    import common  # type: ignore[import-not-found]

    subject = common.Subject("resnet20")
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = experiment(bench, Path(folder), 1, rate)
        data = data_cache.prepared_data(chosen)
        for seed in seeds:
            for network in networks:
                module = subject.dense()
                if network == "a third":
                    macs, _ = common.macs_params(module, subject.example)
                    module = pruned(subject, macs / 3, seed, 512)
                    sets = (subject.train_x, subject.train_y, 2)
                    common.train(module, *sets, lr=0.02, wd=1e-4, seed=seed, images=TRAIN, augment=subject.augment)
                module = module.to(memory_format=torch.contiguous_format).eval()
                later = trained_on(chosen, data, module, seed)
                for method, options in METHODS.items():
                    own = chosen.with_values({"quantization.method": options})
                    for contender, recovery in RECOVERIES.items():
                        settings = own.with_values({"quantization.recovery": recovery}) if recovery else own
                        right, small = quantized(settings, data, module, seed)
                        if contender == "int8":
                            table.append(_row(network, method, "float", seed, right))
                        table.append(_row(network, method, contender, seed, small))
                    table.append(_row(network, method, "trained on, int8", seed, quantized(own, data, later, seed)[1]))
    return table


def _row(network: str, method: str, contender: str, seed: int, right: float) -> dict[str, Any]:
    row = {"network": network, "method": method, "contender": contender, "seed": seed, "accuracy": right}
    print(row, flush=True)
    return row


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--networks", default="dense,a third")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    table = rows(given.bench, given.networks.split(","), seeds, given.lr)
    contenders = ["float", "int8", "trained on, int8", "aware, labels", "aware, taught"]
    cells = []
    for network in given.networks.split(","):
        for method in METHODS:
            own = [
                [row["accuracy"] for row in table if (row["network"], row["method"], row["contender"]) == key]
                for key in ((network, method, contender) for contender in contenders)
            ]
            cells.append([network, method, *(_spread(values) for values in own)])
    show("quantisation-aware recovery", ["network", "scales", *contenders], cells)
    write(given.out, "quantization_aware", {"rows": table})


def _spread(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
