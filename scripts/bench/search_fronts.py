"""Several objectives and constraints: the hypervolume that 100 trials reach, beside Optuna's samplers.

Objectives: ZDT1-3, DTLZ2, DTLZ7, error against parameters of small networks on the digits. The figure is the
hypervolume, divided by that of the best front known. Constraints: C2-DTLZ2 and BNH; with one objective toys of Gramacy
and Gardner, a small ball, and two with a region that fails; their figure is the least feasible loss above the best
known, and in brackets the share of trials that failed or violated. Mean over the seeds, and half the width of its 95%
confidence interval (Student's t). Variants of ours were chosen on the problems marked "chosen"; the others were looked
at once they were chosen. A run that has been measured is kept under --runs and not repeated. `--record` trains the
networks of the digits anew (6 min).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from _common import HERE, ONE_THREAD, PEERS, PYTHON, ROOT, peers_available, run, show, write
from _front_problems import DIGITS, TABLE, Problem, problems

OURS = ("bayesian", "tpe", "random")
THEIRS = ("GPSampler", "TPESampler", "NSGAIISampler")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--problems", nargs="+", help="names; default: all")
    parser.add_argument("--contenders", nargs="+", default=[*OURS, *THEIRS])
    parser.add_argument("--runs", type=Path, help="folder for the losses of each run")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the tables only")
    parser.add_argument("--record", action="store_true", help="train the digits' networks again, and end")
    return parser.parse_args()


def record() -> None:
    """The table of the digits: validation error and parameters of every setting."""
    import warnings

    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore")  # of networks that have not converged
    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x / 16, y, test_size=0.3, random_state=0, stratify=y)
    table: dict[str, list[float]] = {}
    for first in DIGITS["first"]:
        for second in DIGITS["second"]:
            for lr in DIGITS["lr"]:
                hidden = (first, second) if second else (first,)
                network = MLPClassifier(hidden, learning_rate_init=lr, batch_size=64, random_state=0)
                for epoch in range(1, max(DIGITS["epochs"]) + 1):
                    network.partial_fit(train_x, train_y, classes=np.arange(10))
                    if epoch in DIGITS["epochs"]:
                        sizes = [part.size for part in [*network.coefs_, *network.intercepts_]]
                        error = 1 - network.score(test_x, test_y)
                        table[f"{first}/{second}/{lr}/{epoch}"] = [round(error, 6), sum(sizes)]
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
    TABLE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


def searched(sampler: str, name: str, seed: int, trials: int, runs: Path | None) -> list[dict[str, Any]]:
    """The trials of one run, measured now or before."""
    kept = None if runs is None else runs / f"{name}-{sampler}-{seed}-{trials}.json"
    if kept is not None and kept.exists():
        earlier: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
        return earlier
    ours = not sampler.endswith("Sampler")
    command = [PYTHON if ours else PEERS, HERE / "_front_run.py", "modelopt" if ours else "optuna"]
    earlier = run([*command, sampler, name, str(seed), str(trials)], env={**ONE_THREAD, "PYTHONPATH": str(ROOT)}).json()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(earlier), encoding="utf-8")
    return earlier


def usable(row: dict[str, Any]) -> bool:
    return not any(map(math.isnan, row["losses"])) and all(slack <= 0 for slack in row["slacks"])


def figure(problem: Problem, rows: list[dict[str, Any]]) -> float:
    """Share of the best hypervolume (higher is better), or distance to the least loss (lower is better)."""
    from modelopt_cli.tuning.analysis.hypervolume import hypervolume

    points = [tuple(row["losses"]) for row in rows if usable(row)]
    if problem.objectives == 1:
        return min((point[0] for point in points), default=math.inf) - problem.ideal
    return hypervolume(points, problem.reference) / problem.ideal


def with_interval(values: list[float]) -> str:
    """Mean and half the width of its 95% confidence interval."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return f"{mean(values):.4f} ±{half:.4f}" if max(values) < 10 else f"{mean(values):.3g} ±{half:.2g}"


def main() -> None:
    args = arguments()
    if args.record:
        return record()
    peers = peers_available()
    contenders = [name for name in args.contenders if peers or not name.endswith("Sampler")]
    chosen = {name: problem for name, problem in problems().items() if name in (args.problems or problems())}
    everything: dict[str, Any] = {}
    lines: dict[bool, list[list[str]]] = {True: [], False: []}
    for name, problem in chosen.items():
        line = [name, problem.half]
        for sampler in contenders:
            runs = [searched(sampler, name, seed, args.trials, args.runs) for seed in range(args.seeds)]
            values = [figure(problem, rows) for rows in runs]
            wasted = mean(mean(not usable(row) for row in rows) for rows in runs)
            times = {at: median(rows[min(at, len(rows)) - 1]["seconds"] for rows in runs) for at in (50, 100)}
            everything[f"{name}, {sampler}"] = {"values": values, "wasted": wasted, "seconds": times}
            bad = f" ({wasted:.0%})" if problem.constraints or wasted else ""
            line.append(with_interval(values) + bad)
        lines[problem.objectives > 1].append(line)
    columns = ["problem", "half", *contenders]
    if lines[True]:
        show(f"Share of the best hypervolume, {args.trials} trials, {args.seeds} seeds", columns, lines[True])
    if lines[False]:
        show("Least feasible loss above the best known (share of trials wasted)", columns, lines[False])
    write(args.out, "search_fronts", everything, trials=args.trials, seeds=args.seeds)
    return None


if __name__ == "__main__":
    main()
