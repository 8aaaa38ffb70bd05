"""Trials of a fixed amount of work: `_processes_run.py HOW WORKERS TRIALS ROUNDS FILE`. Prints JSON.

HOW is loop (no search), serial or processes. ROUNDS: of _processes_objective.py. FILE: where the study is kept, or "-"
for memory. Told are the seconds of a trial once all workers run (the first quarter of the trials does not count), and
the CPU seconds of everything: this process from here on, and the workers it started.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from _processes_objective import Hashing, work

from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Trial


def main() -> None:
    how, workers, trials, rounds, file = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
    ends: list[float] = []

    def note(trial: Trial) -> None:
        if trial.state.finished:
            ends.append(time.perf_counter())

    start = _cpu()
    if how == "loop":
        for _ in range(trials):
            work(rounds)
            ends.append(time.perf_counter())
    else:
        executor = Serial() if how == "serial" else Processes()
        with Study({"x": {"float": [0.0, 1.0]}}, "random", path=None if file == "-" else file) as study:
            Search(study, executor.open(Hashing(rounds), workers=workers), trials=trials, on_change=note).run()
    first = trials // 4
    seconds = (ends[-1] - ends[first]) / (trials - 1 - first)
    print(json.dumps({"seconds": seconds, "cpu": _cpu() - start}))


def _cpu() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


if __name__ == "__main__":
    main()
