"""The front of a joint search on the digits, beside what searches of pruning alone and of distillation alone reach.

    python scripts/bench/compress_front.py --seeds 3 --runs DIR --out FILE

Each contender is a `modelopt tune` of configs/digits_compress.yaml or of what is left of it when the rest is taken
out: the same number of trials, the same epochs in each (distillation and recovery together), the same splits; seeds
differ in everything else. The figure is the hypervolume of the validation accuracy and the bytes of all trials,
measured from the file's own `tuning.reference`, in accuracy times kilobytes; the second one has the logarithm (base
2) of the bytes, so that halving counts alike everywhere. Points: how many models are on the front. A search that is
in DIR is not repeated.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import mean, stdev
from tempfile import mkdtemp
from typing import Any

import yaml
from _common import CONFIGS, show, write
from _compress import contender, front, points, search, spread, volume

NAMES = ("prune", "distill", "joint", "joint, int8")


def figures_of(searched: dict[str, Any], goals: list[str], reference: list[float]) -> dict[str, Any]:
    """Hypervolumes and points of one search."""
    losses = points(searched["trials"], goals)
    worst = (-reference[0], reference[1])
    log = [(accuracy, math.log2(size)) for accuracy, size in losses]
    own = front(losses, worst)
    return {
        "contender": searched["contender"],
        "seed": searched["seed"],
        "hypervolume": volume(losses, worst) / 1000,
        "hypervolume_log2": volume(log, (worst[0], math.log2(worst[1]))),
        "points": len(own),
        "front": [(-accuracy, size) for accuracy, size in own],
        "trials": len(losses),
        "cpu": searched["cpu"],
        "wall": searched["wall"],
    }


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, help="default: the file's")
    parser.add_argument("--contenders", nargs="+", default=list(NAMES))
    parser.add_argument("--runs", type=Path, help="folder that keeps the searches; default: a temporary one")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    given = parser.parse_args()
    base = yaml.safe_load((CONFIGS / "digits_compress.yaml").read_text(encoding="utf-8"))
    goals, reference = base["tuning"]["objective"], base["tuning"]["reference"]
    folder = (given.runs or Path(mkdtemp())).resolve()
    figures = [
        figures_of(search(name, contender(name, base), seed, folder, given.trials), goals, reference)
        for seed in range(given.seeds)
        for name in given.contenders
    ]
    lines, volumes = [], {}
    for name in given.contenders:
        own = [row for row in figures if row["contender"] == name]
        volumes[name] = [row["hypervolume"] for row in own]
        logs = [row["hypervolume_log2"] for row in own]
        counts = ", ".join(str(row["points"]) for row in own)
        cells = [spread(volumes[name]), spread(logs), counts]
        lines.append(
            [name, *cells, f"{mean(row['cpu'] for row in own):.0f}", f"{mean(row['wall'] for row in own):.0f}"]
        )
    columns = ["", "accuracy x kB", "accuracy x doublings", "points", "CPU s", "wall s"]
    title = (
        f"hypervolume from accuracy {reference[0]:g} and {reference[1]:,} bytes, {given.seeds} seeds, mean ± deviation"
    )
    show(title, columns, lines)
    goals_met = []
    best = "joint, int8"
    if best in volumes and given.seeds > 1:
        for name in ("prune", "distill"):
            if name in volumes:
                ahead = mean(volumes[best]) - mean(volumes[name])
                noise = max(stdev(volumes[best]), stdev(volumes[name]))
                met = ahead > noise
                print(f"{best} ahead of {name} by {ahead:.4g}, deviation {noise:.2g}: {'met' if met else 'MISSED'}")
                goals_met.append({"what": f"ahead of {name}", "value": ahead, "goal": noise, "met": met})
    write(given.out, "compress_front", figures, goals_met, reference=reference)


if __name__ == "__main__":
    main()
