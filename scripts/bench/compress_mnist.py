"""configs/mnist_compress.yaml through `modelopt compress`: what each stage leaves, and whether the goals are met.

    python scripts/bench/compress_mnist.py --mnist DIR --runs DIR --out FILE

Goals: a teacher above 98.8% on test; at most a tenth of its multiply-accumulates and, in float, of its file's bytes;
at most a thirtieth of the bytes as int8; at most 0.2 points less accuracy, on validation and on test. Everything was
chosen on the validation split. Latency: median milliseconds of a batch, one thread, all in turns. A run that is in
the folder --runs is shown and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from _common import CONFIGS, MODELOPT, ONE_THREAD, ROOT, run, show, verdict, write

POINTS = 0.002
"""Accuracy that may be lost."""
COLUMNS = ("model.parameters", "model.macs", "model.file_bytes")


def records(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The rows of a table of the report, by column."""
    table = report["tables"].get(name)
    return [] if table is None else [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, default=os.environ.get("MNIST"), help="folder of the IDX files")
    parser.add_argument("--runs", type=Path, help="folder of the run; default: a temporary one")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    given = parser.parse_args()
    if given.mnist is None:
        parser.error("--mnist or $MNIST must name the folder of MNIST's files")
    folder = (given.runs or Path(mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "run" / "report.json"
    if not file.exists():
        env = {**ONE_THREAD, "PYTHONPATH": str(ROOT), "MNIST": str(given.mnist.resolve())}
        config = CONFIGS / "mnist_compress.yaml"
        command = [MODELOPT, "compress", config, "--out", folder / "run", "--quiet", "--set", "gates=[]"]
        took = run(command, cwd=folder, env=env)
        (folder / "cost.json").write_text(json.dumps({"cpu": took.cpu, "wall": took.wall}), encoding="utf-8")
    report = json.loads(file.read_text(encoding="utf-8"))
    cost = json.loads((folder / "cost.json").read_text(encoding="utf-8"))
    stages = records(report, "stages")
    lines = [
        [
            row["stage"],
            *(f"{100 * row[f'{split}.accuracy']:.2f}" for split in ("validation", "test")),
            *(f"{row[name]:,.0f}" if row.get(name) is not None else "" for name in COLUMNS),
        ]
        for row in stages
    ]
    show("what each stage left", ["", "validation", "test", *(name.removeprefix("model.") for name in COLUMNS)], lines)
    latencies = records(report, "latency")
    if latencies:
        columns = [name for name in latencies[0] if isinstance(latencies[0][name], str | int | float)]
        cells = [[str(f"{row[c]:.4g}" if isinstance(row[c], float) else row[c]) for c in columns] for row in latencies]
        show("latency", columns, cells)
    teacher, last = stages[0], stages[-1]
    slim = next(row for row in reversed(stages) if row["stage"] != "quantize")
    goals = [
        verdict("teacher's error on test", 1 - teacher["test.accuracy"], 0.012, ""),
        verdict("multiply-accumulates left", slim["model.macs"] / teacher["model.macs"], 0.1),
        verdict("bytes of the float file left", slim["model.file_bytes"] / teacher["model.file_bytes"], 0.1),
        verdict("bytes of the int8 file left", last["model.file_bytes"] / teacher["model.file_bytes"], 1 / 30),
    ]
    for split in ("validation", "test"):
        lost = teacher[f"{split}.accuracy"] - last[f"{split}.accuracy"]
        goals.append(verdict(f"accuracy lost on {split}", lost, POINTS, ""))
    print(f"CPU {cost['cpu']:.0f} s, wall {cost['wall']:.0f} s")
    write(given.out, "compress_mnist", {"stages": stages, "latency": latencies, **cost}, goals)


if __name__ == "__main__":
    main()
