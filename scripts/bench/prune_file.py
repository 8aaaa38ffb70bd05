"""`modelopt prune` on a large safetensors file, beside a plain copy of it: time, and memory that is the process's own.

The file is made of layers of normally distributed float32 weights. A copy ends with an fsync, as pruning does. Private
memory is RssAnon of /proc, sampled every few milliseconds: pages of mapped files, which the system takes back when it
needs them, do not count. Both are whole processes, the start of Python and torch included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from _common import MODELOPT, PYTHON, ratio, run, show, verdict, write

COLUMNS = 8192
COPY = """
import os, shutil, sys
shutil.copyfile(sys.argv[1], sys.argv[2])
with open(sys.argv[2], "rb+") as stream:
    os.fsync(stream.fileno())
"""
START = "import modelopt_cli.cli.main, torch, modelopt_cli.workflows.prune_file"
MB = 1_000_000


def make(path: Path, size: int, largest: int) -> None:
    """A file of `size` bytes in tensors of `largest` bytes, written one by one."""
    import torch

    rows = largest // (4 * COLUMNS)
    each = rows * COLUMNS * 4
    header = {}
    for number in range(max(1, size // each)):
        offsets = [number * each, (number + 1) * each]
        header[f"layers.{number}.weight"] = {"dtype": "F32", "shape": [rows, COLUMNS], "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(0)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for _ in header:
            stream.write((torch.randn(rows, COLUMNS, generator=generator) * 0.02).numpy().data)


def watched(argv: Sequence[str | Path]) -> tuple[float, float]:
    """(seconds, most private megabytes) of a command."""
    start = time.perf_counter()
    process = subprocess.Popen([str(one) for one in argv], stdout=subprocess.DEVNULL)
    peak = [0]

    def watch() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                lines = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
            except (FileNotFoundError, ProcessLookupError):
                return
            peak[0] = max([peak[0], *(int(line.split()[1]) * 1024 for line in lines)])
            time.sleep(0.003)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - start
    watcher.join()
    if code:
        raise subprocess.CalledProcessError(code, list(map(str, argv)))
    return seconds, peak[0] / MB


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="turns for each contender; default 3")
    parser.add_argument("--size", type=int, default=2000, help="megabytes of the file; default 2000")
    parser.add_argument("--largest", type=int, default=200, help="megabytes of a tensor; default 200")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: the system's temporary folder")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelopt-bench-", dir=options.folder) as folder:
        source, target = Path(folder) / "model.safetensors", Path(folder) / "out.safetensors"
        make(source, options.size * MB, options.largest * MB)
        prune: list[str | Path] = [MODELOPT, "prune", source, "--all", "--quiet", "--out", target]
        contenders: dict[str, Sequence[str | Path]] = {
            "plain copy": [PYTHON, "-c", COPY, source, target],
            "--threshold 0.01": [*prune, "--threshold", "0.01"],
            "--amount 0.9": [*prune, "--amount", "0.9"],
            "--pattern 2:4": [*prune, "--pattern", "2:4"],
            "start alone": [PYTHON, "-c", START],
        }
        run([PYTHON, "-c", START])  # compiles
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        memory: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.repeats):
            for name, argv in contenders.items():
                took, most = watched(argv)
                seconds[name].append(took)
                memory[name].append(most)
                target.unlink(missing_ok=True)
    shown = [
        [name, f"{median(times):.2f}", f"{ratio(seconds, name, 'plain copy'):.2f}", f"{max(memory[name]):.0f}"]
        for name, times in seconds.items()
    ]
    show(f"{options.size} MB of safetensors", ["", "seconds", "of a plain copy", "private MB"], shown)
    work = [a - b for a, b in zip(seconds["--threshold 0.01"], seconds["start alone"], strict=True)]
    copies = seconds["plain copy"]
    goals = [
        verdict("threshold, time of a plain copy", ratio(seconds, "--threshold 0.01", "plain copy"), 2.0),
        verdict("the same without the start", median(a / b for a, b in zip(work, copies, strict=True)), 2.0),
        verdict("private memory", max(memory["--threshold 0.01"]), 1.3 * options.largest + 300, " MB"),
    ]
    write(options.out, "prune_file", {"seconds": seconds, "private_mb": memory}, goals, size_mb=options.size)


if __name__ == "__main__":
    main()
