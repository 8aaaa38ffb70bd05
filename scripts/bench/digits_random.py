"""The 20 trials of configs/digits_random.yaml: modelopt beside a hand-written torch loop and Optuna.

All train the same 20 settings (modelopt's, from its trials.json) in one process with one thread each
(OMP_NUM_THREADS=1: these networks are too small to gain from more). Seconds are counted inside the process, after the
imports of torch and scikit-learn; modelopt's hold all of its workflow: plan, study on disk, tables, the best model.
For comparison, the command as users run it, imports included. Goal: at most 1.15 times the hand-written loop. With one
thread, CPU time says the same as wall time on an idle machine, and is not lengthened by neighbours on a busy one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from _common import (
    CONFIGS,
    HERE,
    MODELOPT,
    ONE_THREAD,
    PEERS,
    PYTHON,
    interleave,
    options,
    peers_available,
    ratio,
    rows,
    run,
    show,
    verdict,
    write,
)

OURS, PLAIN, OPTUNA, COMMAND = "modelopt, serial", "hand-written loop", "Optuna, DataLoader", "modelopt tune (process)"


def main() -> None:
    args = options(__doc__, repeats=5)
    cpu: dict[str, list[float]] = {}
    accuracies: dict[str, float] = {}

    with TemporaryDirectory() as folder:
        file = Path(folder, "trials.json")

        def contender(name: str, python: str | Path, kind: str) -> Callable[[], float]:
            def measure() -> float:
                done = run([python, HERE / "_digits_run.py", kind, file], env=ONE_THREAD)
                printed = done.json()
                assert printed["threads"] == 1
                assert len(printed["accuracies"]) == 20
                cpu.setdefault(name, []).append(float(printed["cpu"]))
                accuracies[name] = median(printed["accuracies"])
                return float(printed["seconds"])

            return measure

        def command() -> float:
            out = Path(folder, f"run{len(list(Path(folder).iterdir()))}")
            config = CONFIGS / "digits_random.yaml"
            done = run([MODELOPT, "tune", config, "--quiet", "--out", out, "--set", "device=cpu"], env=ONE_THREAD)
            cpu.setdefault(COMMAND, []).append(done.cpu)
            return done.wall

        contenders = {OURS: contender(OURS, PYTHON, "modelopt"), PLAIN: contender(PLAIN, PYTHON, "plain")}
        if peers_available():
            contenders[OPTUNA] = contender(OPTUNA, PEERS, "optuna")
        figures = interleave({**contenders, COMMAND: command}, args.repeats)

    columns = ["contender", "median s", "least", "most", "modelopt / it"]
    show("20 trials on digits, seconds after the imports (the command: wall time of all)", columns, rows(figures, OURS))
    show("The same, CPU time", columns, rows(cpu, OURS))
    print("median accuracy over the trials: " + ", ".join(f"{name} {value:.4f}" for name, value in accuracies.items()))
    goals = [
        verdict("modelopt / hand-written loop, CPU", ratio(cpu, OURS, PLAIN), 1.15),
        verdict("modelopt / hand-written loop, wall", ratio(figures, OURS, PLAIN), 1.15),
    ]
    write(args.out, "digits_random", {"seconds": figures, "cpu": cpu}, goals, accuracies=accuracies)


if __name__ == "__main__":
    main()
