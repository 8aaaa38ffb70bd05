"""Searches that stop, pause or predict, on LCBench's 34 tasks with a virtual clock: regret after so many epochs.

Regret 0 is the best final validation accuracy of 20,000 random settings of a task, 1 their median; what a search has
reached is the best validation accuracy that it has seen. An epoch costs one, whichever network it trains; a paused
trial goes on where it was. `--peers PYTHON` runs rivals in that environment (_lcbench_peers.py).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _common import show, write
from _lcbench import SPACE, TOTAL, Task, task_names

from modelopt_cli.core.strategy import Named
from modelopt_cli.tuning.simulator import simulate
from modelopt_cli.tuning.study import Study

METHODS: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random"},
    "bayesian": {"sampler": "bayesian"},
    "random, asha": {"sampler": "random", "stopper": "asha"},
    "random, hyperband": {"sampler": "random", "stopper": "hyperband"},
    "bayesian, asha": {"sampler": "bayesian", "stopper": "asha"},
    "tpe, hyperband": {"sampler": "tpe", "stopper": "hyperband"},
}
BUDGETS = (5, 10, 20, 50)  # full trainings


def run(method: Mapping[str, Any], task: str, seed: int, most: int) -> list[float]:
    """Best validation accuracy after each epoch of `most` full trainings."""
    found = Task(task)
    study = Study(SPACE, method["sampler"], "maximize accuracy", seed=seed)
    strategies = {kind: Named(f"{kind}s").parse(method[kind]) for kind in ("stopper", "scheduler") if kind in method}
    steps = most * TOTAL
    trials = most if "scheduler" in method else None
    simulated = simulate(study, found.curve, trials=trials, steps=steps, **strategies)
    seen = [metrics["accuracy"] for _, _, _, metrics in simulated.history]
    seen += seen[-1:] * (steps - len(seen))
    return [float(value) for value in np.maximum.accumulate(seen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lcbench", default=os.environ.get("LCBENCH"), help="folder of model.onnx; default: $LCBENCH")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--tasks", type=int, help="so many of the 34, evenly spread; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=50, help="full trainings' worth of epochs; default 50")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    os.environ["LCBENCH"] = str(given.lcbench)
    names = task_names()
    if given.tasks:
        names = names[:: max(1, len(names) // given.tasks)][: given.tasks]
    figures: dict[str, Any] = {}
    with ProcessPoolExecutor(given.workers) as pool:
        for name in given.methods:
            method = METHODS[name] if name in METHODS else json.loads(name)
            jobs = {(t, s): pool.submit(run, method, t, s, given.most) for t in names for s in range(given.seeds)}
            curves = np.array([[Task(t).regret(jobs[t, s].result()) for s in range(given.seeds)] for t in names])
            figures[name] = summary(curves, given.most)
            print(name, figures[name]["mean"], flush=True)
    budgets = [b for b in BUDGETS if b <= given.most]
    lines = [
        [
            name,
            *(f"{f['mean'][str(b)]:.3f} ± {f['error'][str(b)]:.3f}" for b in budgets),
            *("-" if f["reached"].get(k) is None else f"{f['reached'][k]:.1f}" for k in ("random",)),
        ]
        for name, f in figures.items()
    ]
    show(
        f"LCBench: regret after full trainings' worth of epochs, {len(names)} tasks, {given.seeds} seeds",
        ["search", *map(str, budgets), "reached random's at 50 after"],
        lines,
    )
    write(given.out, "search_lcbench", figures)


def summary(curves: np.ndarray, most: int) -> dict[str, Any]:
    """Of regrets (tasks, seeds, epochs)."""
    by_seed = curves.mean(axis=0)
    found: dict[str, Any] = {"mean": {}, "error": {}, "reached": {}}
    for budget in BUDGETS:
        if budget <= most:
            at = by_seed[:, budget * TOTAL - 1]
            found["mean"][str(budget)] = float(at.mean())
            found["error"][str(budget)] = float(1.96 * at.std(ddof=1) / len(at) ** 0.5) if len(at) > 1 else float("nan")
    mean = by_seed.mean(axis=0)
    found["curve"] = [float(value) for value in mean[TOTAL // 2 - 1 :: TOTAL // 2]]
    return found


if __name__ == "__main__":
    main()
