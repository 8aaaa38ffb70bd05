"""What the distillation benchmarks share: MNIST and CIFAR-10 cut to what a CPU core affords, and experiments on them.

The subsets are fixed: the first images of each class (CIFAR-10) or of the shuffled file (MNIST). Validation comes from
the images after those that train; test is the data's own.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from modelopt_cli.data.idx_files import read_folder
from modelopt_cli.experiment.experiment import Experiment

VALIDATION = 2000


def mnist(source: Path, folder: Path, train: int, *, half: bool = False) -> dict[str, Any]:
    """A data section: the first `train` images, the next 2,000 to validate on, the 10,000 of the t10k files.

    `half`: images of 14 x 14 pixels, each the mean of four.
    """
    folder_images = read_folder(source)
    name, most = f"mnist{train}{'half' if half else ''}.npz", train + VALIDATION
    path, own = folder / name, len(folder_images.images) - folder_images.test
    if not path.exists():
        images = folder_images.images
        if half:
            count, height, width = images.shape
            images = images.reshape(count, height // 2, 2, width // 2, 2).mean((2, 4)).astype(images.dtype)
        np.savez(
            path,
            inputs=images[:most],
            targets=folder_images.labels[:most].astype(np.int64),
            test_inputs=images[own:],
            test_targets=folder_images.labels[own:].astype(np.int64),
        )
    return {
        "type": "npz",
        "path": str(path),
        "test_inputs": "test_inputs",
        "test_targets": "test_targets",
        "splits": {"validation": list(range(train, most)), "seed": 0},
    }


def cifar(archive: Path, folder: Path, train: int, side: int) -> dict[str, Any]:
    """A data section: the first images of each class, `train` in all, 2,000 to validate on, 10,000 to test on."""
    own, held = train // 10, VALIDATION // 10
    where = folder / f"cifar{train}"
    if not where.exists():
        with tarfile.open(archive) as packed:
            wanted = [one for one in packed.getmembers() if _is_wanted(one.name, own + held)]
            packed.extractall(where, wanted, filter="data")
    positions = [digit * (own + held) + number for digit in range(10) for number in range(own, own + held)]
    return {
        "type": "images",
        "path": str(where),
        "size": [side, side],
        "splits": {"validation": positions, "seed": 0},
    }


def _is_wanted(name: str, each: int) -> bool:
    part, _, rest = name.partition("/")
    return rest.endswith(".jpg") and (part == "test" or int(Path(rest).stem) < each)


def experiment(
    data: dict[str, Any], model: dict[str, Any], training: dict[str, Any], distillation: dict[str, Any], seed: int = 0
) -> Experiment:
    """One on the CPU."""
    sections = {"data": data, "model": model, "training": training, "distillation": distillation}
    return Experiment.load({"version": 1, "seed": seed, "device": "cpu", **sections})
