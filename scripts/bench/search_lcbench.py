"""Searches that stop, pause or predict, on LCBench's 34 tasks with a virtual clock: regret after so many epochs.

Regret 0 is the best final validation accuracy of 20,000 random settings of a task, 1 their median; what a search has
reached is the best validation accuracy that it has seen. An epoch costs one, whichever network it trains; a paused
trial goes on where it was. `--peers PYTHON` runs rivals in that environment (_lcbench_peers.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
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
    "successive_halving": {"sampler": "random", "scheduler": "successive_halving"},
    "bohb": {"sampler": "random", "scheduler": "bohb"},
    "freeze_thaw": {"sampler": "random", "scheduler": "freeze_thaw"},
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


def rival(python: str, name: str, tasks: Sequence[str], seeds: int, most: int) -> np.ndarray:
    """Regrets (tasks, seeds, epochs) of a rival in its own environment."""
    command = [python, str(Path(__file__).with_name("_lcbench_peers.py")), name, str(most), str(seeds), *tasks]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    return np.array([[Task(task).regret(best) for best in found[task]] for task in tasks])


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lcbench", default=os.environ.get("LCBENCH"), help="folder of model.onnx; default: $LCBENCH")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="by name, or as a tuning section in JSON")
    parser.add_argument("--peers", help="Python of an environment with optuna, dehb and onnxruntime")
    parser.add_argument("--rivals", nargs="*", default=["optuna", "dehb"])
    parser.add_argument("--tasks", type=int, help="so many of the 34, evenly spread; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=50, help="full trainings' worth of epochs; default 50")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
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
    for name in given.rivals if given.peers else ():
        figures[name] = summary(rival(given.peers, name, names, given.seeds, given.most), given.most)
        print(name, figures[name]["mean"], flush=True)
    budgets = [str(budget) for budget in BUDGETS if budget <= given.most]
    lines = [
        [name, *(f"{row['mean'][budget]:.3f} ± {row['error'][budget]:.3f}" for budget in budgets)]
        for name, row in figures.items()
    ]
    title = f"LCBench: regret after full trainings' worth of epochs; {len(names)} tasks, {given.seeds} seeds"
    show(title, ["search", *budgets], lines)
    write(given.out, "search_lcbench", figures)


def summary(curves: np.ndarray, most: int) -> dict[str, Any]:
    """Of regrets (tasks, seeds, epochs): means over tasks, with the 95% interval over seeds, and the whole curve."""
    by_seed = curves.mean(axis=0)
    found: dict[str, Any] = {"mean": {}, "error": {}}
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
