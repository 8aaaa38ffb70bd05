"""What a decision of the scheduler `freeze_thaw` costs after 50, 100, 200 and 300 trials, on made curves.

CPU milliseconds of one process with one thread: the median of the decisions that gave a slot away (most of them), and
the mean, which holds the fits of hyperparameters too. `--beside DIR` measures another checkout in turns with this one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, median
from typing import Any

from _common import HERE, ONE_THREAD, PYTHON, ROOT, run, show, verdict, write

SIZES = (50, 100, 200, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--beside", type=Path, help="another checkout")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    args = parser.parse_args()
    contenders = {"here": (ROOT, 1), "here, two objectives": (ROOT, 2)}
    if args.beside is not None:
        contenders[str(args.beside)] = (args.beside, 1)
    taken: dict[str, list[tuple[int, float]]] = {name: [] for name in contenders}
    for seed in range(args.seeds):
        for name, (root, objectives) in contenders.items():
            environment = {**ONE_THREAD, "PYTHONPATH": str(root)}
            command: list[str | Path] = [PYTHON, HERE / "_decision_run.py", str(seed), str(objectives)]
            taken[name] += [(trials, seconds) for trials, seconds in run(command, env=environment).json()]
    figures: dict[str, Any] = {}
    lines = []
    for name, rows in taken.items():
        by_size = {size: [1000 * s for trials, s in rows if abs(trials - size) <= size // 10] for size in SIZES}
        figures[name] = {
            str(size): {"median": median(times), "mean": mean(times)} for size, times in by_size.items() if times
        }
        known = figures[name]
        cells = [
            f"{known[str(s)]['median']:.1f} / {known[str(s)]['mean']:.1f}" if str(s) in known else "-" for s in SIZES
        ]
        lines.append([name, *cells])
    show("A decision of freeze_thaw after so many trials, ms (median / mean)", ["", *map(str, SIZES)], lines)
    most = max(row["median"] for row in figures["here"].values())
    write(args.out, "decision_cost", figures, [verdict("a decision up to 300 trials", most, 3.0, " ms")])


if __name__ == "__main__":
    main()
