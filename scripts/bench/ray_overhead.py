"""What a trial costs beyond its own computing on Ray, beside worker processes: trials that do nothing, one at a time.

    python scripts/bench/ray_overhead.py --repeats 3 --out ray_overhead.json

Each contender searches 300 such trials by `random`; the first 60, by which all processes have started, do not count.
Wall time of a trial, and CPU time of the process that searches. Ray runs on this machine (`address: local`).
"""

from __future__ import annotations

import time
from statistics import median

from _common import ROOT, options, show, write  # puts the repository on the path

from modelopt_cli.tuning.executors import Executor
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.ray import Ray
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Trial
from tests.support.search_objectives import CurveObjective

assert ROOT
TRIALS, WARM = 300, 60
CONTENDERS: dict[str, Executor] = {"processes": Processes(), "ray": Ray()}


def measured(executor: Executor) -> tuple[float, float]:
    """(wall, CPU) milliseconds of a trial."""
    ends: list[tuple[float, float]] = []

    def note(trial: Trial) -> None:
        if trial.state.finished:
            ends.append((time.perf_counter(), time.process_time()))

    study = Study({"x": {"float": [0.0, 1.0]}}, "random", seed=1)
    Search(study, executor.open(CurveObjective(1), workers=1), trials=TRIALS, on_change=note).run()
    (wall, cpu), (last_wall, last_cpu) = ends[WARM], ends[-1]
    counted = TRIALS - 1 - WARM
    return (last_wall - wall) / counted * 1e3, (last_cpu - cpu) / counted * 1e3


def main() -> None:
    """Run, print, write."""
    args = options(__doc__, repeats=3)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(args.repeats):
        for name, executor in CONTENDERS.items():
            figures[name].append(measured(executor))
            print(name, *(f"{value:.2f}" for value in figures[name][-1]), flush=True)
    lines = []
    for name, pairs in figures.items():
        walls, cpus = zip(*pairs, strict=True)
        lines.append([name, f"{median(walls):.2f}", f"{min(walls):.2f}", f"{median(cpus):.2f}"])
    show("Milliseconds of a trial that does nothing", ["executor", "wall", "least", "CPU here"], lines)
    write(args.out, "ray_overhead", figures)


if __name__ == "__main__":
    main()
