"""What a trial costs beside itself, in this process and in worker processes; and what a second worker brings.

The overhead is the CPU time of empty trials, of the driver and of the workers together: what 800 of them take beyond
200, so that starting up does not count. Trials of a fixed amount of work show the speed-up: a loop without any search
beside one and two workers, in turns. CPU time stays what it is where others use the machine, too; seconds do not, so
the best turn counts, and the bound by CPU time stands beside: two cores that share work and overhead alike.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from _common import HERE, ONE_THREAD, PYTHON, interleave, options, run, show, verdict, write

FEW, MANY, WORK, ROUNDS = 200, 800, 60, 1200
CONTENDERS = {"loop": ("loop", 1), "serial": ("serial", 1), "1 worker": ("processes", 1), "2 workers": ("processes", 2)}


def measured(how: str, workers: int, trials: int, rounds: int, *, kept: bool = False) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        file = str(Path(folder, "study.sqlite")) if kept else "-"
        argv: list[str | Path] = [PYTHON, HERE / "_processes_run.py", how, *map(str, (workers, trials, rounds, file))]
        figures: dict[str, float] = run(argv, env=ONE_THREAD).json()
        return figures


def overhead(how: str, workers: int, *, kept: bool = False) -> float:
    """CPU seconds of an empty trial."""
    few, many = (measured(how, workers, trials, 0, kept=kept)["cpu"] for trials in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def seconds_of(how: str, workers: int) -> float:
    """Of a trial of work."""
    return measured(how, workers, WORK, ROUNDS)["seconds"]


def main() -> None:
    args = options(__doc__, repeats=5)
    empty = {name: partial(overhead, *each) for name, each in CONTENDERS.items() if name != "loop"}
    empty["1 worker, study.sqlite"] = partial(overhead, "processes", 1, kept=True)
    work = {name: partial(seconds_of, *each) for name, each in CONTENDERS.items()}
    overheads, seconds = interleave(empty, args.repeats), interleave(work, args.repeats)
    lines = [
        [name, *(f"{1000 * value:.2f}" for value in (median(times), min(times), max(times)))]
        for name, times in overheads.items()
    ]
    show("An empty trial, ms of CPU time", ["", "median", "least", "most"], lines)
    loop = min(seconds["loop"])
    lines = [
        [name, *(f"{1000 * value:.1f}" for value in (min(times), max(times))), f"{loop / min(times):.2f}"]
        for name, times in seconds.items()
    ]
    show(f"A trial of work, ms ({WORK} trials)", ["", "best turn", "worst", "times the loop's speed"], lines)
    alone = measured("loop", 1, WORK, ROUNDS)["cpu"] / WORK
    bound = 2 * alone / (alone + median(overheads["2 workers"]))
    print(f"CPU time of the work alone: {1000 * alone:.1f} ms, so two cores do at most {bound:.3f} times one's")
    goals = [
        verdict("overhead of a trial in a worker process", 1000 * median(overheads["1 worker"]), 5.0, " ms"),
        verdict("two workers: one's time / theirs, inverted", min(seconds["2 workers"]) / loop, 1 / 1.9),
    ]
    figures = {"overhead": overheads, "seconds": seconds, "work_cpu": alone, "bound": bound}
    write(args.out, "processes_overhead", figures, goals)


if __name__ == "__main__":
    main()
