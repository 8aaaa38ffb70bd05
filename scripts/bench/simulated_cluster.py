"""A search of 100,000 trials with 1,000 workers, on a virtual clock: what the driver costs, and whom it keeps busy.

The search is a real one, but for the workers: their steps take the time that a record says. Trials of `random`
report once, those of `random27` after each of 27 steps, and `asha` decides after each of up to 27. What is measured is
CPU time of the one process that drives the search. It is the bottleneck where all workers together make more events
than it can take: where a step is shorter than `workers x seconds an event`, workers wait for it. The second table shows
that: the same search, with that time charged on the virtual clock for each event.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _common import HERE, ONE_THREAD, PYTHON, run, show, write

METHODS = ("random", "random27", "asha")
SHARES = (0.5, 1.0, 2.0, 4.0, 16.0)  # of the step at which the driver is the bottleneck


def searched(method: str, trials: int, workers: int, step: float = 1.0, deciding: float = 0.0) -> dict[str, Any]:
    argv: list[str | Path] = [PYTHON, HERE / "_cluster_run.py", method, *map(str, (trials, workers, step, deciding))]
    figures: dict[str, Any] = run(argv, env=ONE_THREAD).json()
    return figures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100_000, help="trials of each search; default 100000")
    parser.add_argument("--workers", type=int, default=1000, help="workers at a time; default 1000")
    parser.add_argument("--charged", type=int, default=5000, help="trials where time is charged; default 5000, 0: none")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["random", "asha"], help="default: both")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the tables only")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    searches = {method: searched(method, args.trials, args.workers) for method in args.methods}
    lines = [
        [
            method,
            f"{row['trials']:,}",
            f"{row['events']:,}",
            f"{row['driver']:.0f}",
            f"{row['ask']['mean']:.3f} ({row['ask']['last']:.3f})",
            f"{row['decision']['mean']:.3f} ({row['decision']['last']:.3f})",
            f"{1000 * row['event']:.3f}",
            f"{100 * row['utilisation']:.1f}%",
            f"{row['event'] * args.workers:.3f}",
            f"{row['peak_bytes'] / 1e6:,.0f}",
        ]
        for method, row in searches.items()
    ]
    columns = [
        "method",
        "trials",
        "events",
        "CPU s",
        "ms an ask (last tenth)",
        "ms a decision (last tenth)",
        "ms an event",
    ]
    columns += ["workers busy", "bottleneck below s a step", "MB"]
    show(f"{args.workers:,} workers, an ideal driver", columns, lines)
    charged: dict[str, list[dict[str, Any]]] = {method: [] for method in args.methods}
    lines = []
    for method, figures in searches.items() if args.charged else ():
        border = figures["event"] * args.workers
        for share in SHARES:
            again = searched(method, args.charged, args.workers, border * share, figures["event"])
            charged[method].append({"step": border * share, **again})
            busy = again["events"] * figures["event"] / again["seconds"]
            utilisation = f"{100 * again['utilisation']:.1f}%"
            lines.append([method, f"{border * share:.3f}", f"{again['trial']:.3f}", f"{100 * busy:.1f}%", utilisation])
    show(
        f"{args.workers:,} workers, {args.charged:,} trials, each event charged",
        ["method", "s a step", "s a trial", "driver busy", "workers busy"],
        lines,
    )
    write(args.out, "simulated_cluster", searches, charged=charged)


if __name__ == "__main__":
    main()
