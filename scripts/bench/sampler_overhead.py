"""What a suggestion costs after 50 and 300 trials: our `random` and `bayesian` beside Optuna's samplers.

The same space (three floats, a whole number, a choice), objective and history of random settings for all, studies in
memory, one thread each (OMP_NUM_THREADS=1). A suggestion is an ask and a tell; each process's first one, which imports
what the sampler needs, does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

from _common import HERE, ONE_THREAD, PEERS, PYTHON, interleave, options, peers_available, ratio, run, show, write

PAIRS = {"random": ("RandomSampler", 50), "bayesian": ("GPSampler", 6)}  # ours: (Optuna's, suggestions a turn)


def contender(python: str | Path, kind: str, sampler: str, size: int, count: int) -> Callable[[], float]:
    command = [python, HERE / "_sampler_run.py", kind, sampler, str(size), str(count)]
    return lambda: float(run(command, env=ONE_THREAD).json()["median"])


def main() -> None:
    args = options(__doc__, repeats=3)
    peers = peers_available()
    lines: list[list[str]] = []
    everything: dict[str, dict[str, list[float]]] = {}
    for ours, (theirs, count) in PAIRS.items():
        for size in (50, 300):
            contenders = {ours: contender(PYTHON, "modelopt", ours, size, count)}
            if peers:
                contenders[theirs] = contender(PEERS, "optuna", theirs, size, count)
            figures = everything[f"{ours}, {size} trials"] = interleave(contenders, args.repeats)
            milliseconds = {name: f"{1000 * median(times):.3g}" for name, times in figures.items()}
            other = milliseconds.get(theirs, "-")
            compared = f"{ratio(figures, ours, theirs):.3f}" if peers else "-"
            lines.append([ours, str(size), milliseconds[ours], theirs, other, compared])
    show("A suggestion", ["sampler", "trials", "ms", "Optuna's", "ms", "ours / theirs"], lines)
    write(args.out, "sampler_overhead", everything)


if __name__ == "__main__":
    main()
