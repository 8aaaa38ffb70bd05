"""Searches that stop, pause or predict, on LCBench's 34 tasks with a virtual clock: regret after so many epochs.

Regret 0 is the best final validation accuracy of 20,000 random settings of a task, 1 their median; what a search has
reached is the best validation accuracy that it has seen. An epoch costs one, whichever network it trains; a paused
trial goes on where it was. `--peers PYTHON` runs rivals in that environment (_lcbench_peers.py). What was measured is
kept under `--runs` and not repeated, so rivals of several environments, and several days, come into one table:

    search_lcbench.py --runs DIR --methods --peers A/bin/python --rivals optuna dehb syne_asha syne_bohb
    search_lcbench.py --runs DIR --methods --peers B/bin/python --rivals smac --seeds 3 --most 20
    search_lcbench.py --runs DIR --kept --out FILE        # all of it, and nothing is run
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from _common import ONE_THREAD, show, write
from _lcbench import SPACE, TOTAL, Task, task_names
from _lcbench_runs import Job, Runs
from _methods import METHODS, method_of, strategies

from modelopt_cli.tuning.search.simulator import simulate
from modelopt_cli.tuning.study.study import Study

RIVALS = ("optuna", "dehb", "smac", "syne_asha", "syne_bohb")
BUDGETS = (5, 10, 20, 50)  # full trainings


def run(method: Mapping[str, Any], task: str, seed: int, most: int) -> list[float]:
    """Best validation accuracy after each epoch of `most` full trainings."""
    tabulated = Task(task)
    study = Study(SPACE, method["sampler"], "maximize accuracy", seed=seed)
    steps = most * TOTAL
    trials = most if "scheduler" in method else None
    simulated = simulate(study, tabulated.curve, trials=trials, steps=steps, **strategies(method))
    seen = [metrics["accuracy"] for _, _, _, metrics in simulated.history]
    seen += seen[-1:] * (steps - len(seen))
    return [float(value) for value in np.maximum.accumulate(seen)]


def record(name: str, job: Job, most: int) -> dict[str, Any]:
    """A run of ours as it is kept."""
    start = time.process_time()
    best = [round(value, 6) for value in run(method_of(name), *job, most)]
    spent = time.process_time() - start
    return {"method": name, "task": job[0], "seed": job[1], "most": most, "cpu": spent, "best": best}


def run_rival(python: str, name: str, jobs: Sequence[Job], most: int, runs: Runs) -> None:
    """In its own environment, job by job."""
    command = [python, str(Path(__file__).with_name("_lcbench_peers.py")), name, str(most)]
    environment = {**os.environ, **ONE_THREAD, "LOKY_MAX_CPU_COUNT": "1"}
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines)
        process.stdin.close()
        for line in process.stdout:
            runs.add(json.loads(line))
    if process.returncode:
        raise SystemExit(f"{name} failed: see above")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lcbench", default=os.environ.get("LCBENCH"), help="folder of model.onnx; default: $LCBENCH")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="by name, or as a tuning section in JSON")
    parser.add_argument("--peers", help="Python of an environment with onnxruntime and the rivals' packages")
    parser.add_argument("--rivals", nargs="*", default=RIVALS)
    parser.add_argument("--tasks", type=int, help="so many of the 34, evenly spread; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=50, help="full trainings' worth of epochs; default 50")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--runs", type=Path, help="folder where runs are kept, as JSON lines")
    parser.add_argument("--kept", action="store_true", help="the table of what --runs holds; run nothing")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    return parser.parse_args()


def main() -> None:
    """Run, print, write."""
    given = arguments()
    os.environ["LCBENCH"] = str(given.lcbench)
    names = task_names()
    if given.tasks:
        names = names[:: max(1, len(names) // given.tasks)][: given.tasks]
    runs = Runs(given.runs)
    with ProcessPoolExecutor(given.workers) as pool:
        for name in () if given.kept else given.methods:
            planned = "scheduler" in method_of(name)
            jobs = runs.missing(name, names, given.seeds, given.most, planned=planned)
            for done in as_completed([pool.submit(record, name, job, given.most) for job in jobs]):
                runs.add(done.result())
    for name in given.rivals if given.peers and not given.kept else ():
        run_rival(given.peers, name, runs.missing(name, names, given.seeds, given.most), given.most, runs)
    budgets = [budget for budget in BUDGETS if budget <= given.most]
    shown = dict.fromkeys([*given.methods, *given.rivals])
    figures = {name: runs.summary(name, names, given.seeds, budgets) for name in shown}
    figures = {name: row for name, row in figures.items() if row["mean"]}
    title = (
        f"LCBench: regret after full trainings' worth of epochs; {len(names)} tasks (seeds); CPU s a training's worth"
    )
    lines = [[name, *(cell(row, str(budget)) for budget in budgets), cpu(row)] for name, row in figures.items()]
    show(title, ["search", *map(str, budgets), "CPU s"], lines)
    write(given.out, "search_lcbench", figures, tasks=len(names))


def cell(row: Mapping[str, Any], budget: str) -> str:
    """Mean regret, the 95% interval over seeds, how many."""
    if budget not in row["mean"]:
        return ""
    error = row["error"][budget]
    return f"{row['mean'][budget]:.3f}{'' if math.isnan(error) else f' ± {error:.3f}'} ({row['seeds'][budget]})"


def cpu(row: Mapping[str, Any]) -> str:
    return f"{row['cpu_per_training']:.3f}"


if __name__ == "__main__":
    main()
