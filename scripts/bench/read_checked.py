"""Reading a model.pt of 500 MB with and without the comparison of its checksums, in turns.

`read` is the file's content, `load` the whole model (models/files/checkpoints.py); `alone` is torch.load.

    python scripts/bench/read_checked.py [--megabytes 500] [--repeats 7] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from modelopt_cli.core.strategy import Named
from modelopt_cli.models.architectures import Architecture, Shapes
from modelopt_cli.models.files import archives, checkpoints


def made(path: Path, megabytes: int) -> None:
    """A model.pt of about that size."""
    width = round((megabytes * 1e6 / 4 / 4) ** 0.5)
    architecture = Named("models").parse({"type": "mlp", "hidden": [width] * 5})
    assert isinstance(architecture, Architecture)
    shapes = Shapes(inputs=(16,), outputs=10, task="classification")
    model = checkpoints.Checkpoint(architecture.build(shapes, 0), architecture, shapes, {}, (), "classification")
    checkpoints.save(path, model)


def unchecked(function: Callable[[Path], Any], path: Path) -> Any:
    """The function, as it is for an archive without checksums."""
    with patch.object(archives, "without_checksums", lambda _: True):
        return function(path)


def main() -> None:
    """Print the table; write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        made(path, options.megabytes)
        contenders: dict[str, Callable[[], Any]] = {
            "torch.load alone": lambda: torch.load(path, weights_only=True),
            "read, not checked": lambda: unchecked(archives.read_pickle, path),
            "read": lambda: archives.read_pickle(path),
            "load, not checked": lambda: unchecked(checkpoints.load, path),
            "load": lambda: checkpoints.load(path),
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for turn in range(options.repeats + 1):
            for name in list(contenders)[:: 1 if turn % 2 else -1]:
                wall, cpu = time.perf_counter(), time.process_time()
                contenders[name]()
                if turn:  # the first one warms up
                    seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        size = path.stat().st_size
    rows = {name: [statistics.median(part) for part in zip(*turns, strict=True)] for name, turns in seconds.items()}
    print(f"{size / 1e6:.0f} MB, median of {options.repeats}, {torch.get_num_threads()} threads of torch's")
    print(f"{'':20}{'wall s':>10}{'CPU s':>10}{'wall, to not checked':>24}{'CPU':>8}")
    ratios = {}
    for name, (wall, cpu) in rows.items():
        base = rows.get(f"{name}, not checked")
        ratio = "" if base is None else f"{wall / base[0]:24.2f}{cpu / base[1]:8.2f}"
        ratios[name] = None if base is None else wall / base[0]
        print(f"{name:20}{wall:10.3f}{cpu:10.3f}{ratio}")
    if options.out:
        options.out.write_text(json.dumps({"bytes": size, "seconds": rows, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
