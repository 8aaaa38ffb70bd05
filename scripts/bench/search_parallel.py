"""Five workers on a simulated clock, beside one: the regret after 50 trials, and what Optuna's samplers reach.

Problems: Branin, Hartmann (6), Ackley (5) and those of ../shared/bench/hpo (`--hpo`). Schedules: one trial after
another; five workers, each of which gets its next trial as soon as it is free; batches of five. A trial's duration is
lognormal, and the same for all. Contenders: `bayesian` (or others of ours, `--contenders`), Optuna's TPE as the
constant liar and its Gaussian process with the joint expected improvement of the running trials.

The regret is the true loss of what looks best above the least known one; on hpo's problems in units of random search's
after 50 trials, cut at 2, as its README says. The figure is the median over seeds on functions, whose regret falls by
magnitudes, and the mean on the others; beside it the ratio to the same contender with one worker: of functions that of
the geometric means over seeds (regrets below 1e-6 count as that), of the others that of the means (below 0.01
likewise). In brackets its 95% interval by the bootstrap. What has been measured is kept in `--runs` and not measured
again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from _common import ONE_THREAD, show, write
from _parallel_run import FUNCTIONS, OPTUNA, SCHEDULES, contender_of, problem_of, reached, searched

TABLES = ("svm_digits", "mlp_digits", "histgb_breast_cancer", "knn_digits", "sgd_digits")
NOTHING, HARDLY = 1e-6, 0.01  # regrets below which differences do not count: of functions, of hpo's problems


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", nargs="+", help=f"default: {', '.join(FUNCTIONS)}, with --hpo also its tables")
    parser.add_argument("--contenders", nargs="+", default=["bayesian", *OPTUNA], help="default: all")
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=list(SCHEDULES), help="default: all")
    parser.add_argument("--hpo", type=Path, help="the folder ../shared/bench/hpo; default: functions only")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--runs", type=Path, help="file of JSON lines for what was measured; not measured again")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    return parser.parse_args()


class Runs:
    """What was measured, by problem, contender, schedule, seed and trials, in a file of JSON lines."""

    def __init__(self, file: Path | None, hpo: Path | None) -> None:
        self._file, self._hpo = file, hpo
        self._known: dict[str, dict[str, Any]] = {}
        if file is not None and file.exists():
            self._known = dict(map(json.loads, file.read_text(encoding="utf-8").splitlines()))

    def get(self, name: str, contender: str, schedule: str, seed: int, trials: int) -> dict[str, Any]:
        """Kept, or measured now."""
        key = json.dumps([name, contender, schedule, seed, trials])
        if key not in self._known:
            problem = problem_of(name, self._hpo)
            run = searched(contender_of(contender, problem.space, seed), problem, schedule, seed, trials)
            self._known[key] = run
            print(key, f"{reached(run, trials):.6g}, CPU {run['cpu']:.1f} s", file=sys.stderr, flush=True)
            if self._file is not None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([key, run]) + "\n")
        return self._known[key]


def regrets(name: str, hpo: Path | None, losses: Sequence[float]) -> list[float]:
    """Of losses; in units of random search's on hpo's problems."""
    if name in FUNCTIONS:
        return [loss - FUNCTIONS[name][1] for loss in losses]
    assert hpo is not None
    known = json.loads((hpo / "best_known.json").read_text(encoding="utf-8"))
    low, high = known["best"][name], known["random50"][name]
    return [min(max((loss - low) / (high - low), 0.0), 2.0) for loss in losses]


def share(name: str, values: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Of the regrets `others`, as the module docstring says, with its 95% interval: seeds are drawn again, in pairs."""
    pairs = np.array([values, others])
    picks = np.random.default_rng(0).integers(len(values), size=(10_000, len(values)))
    drawn = np.concatenate([pairs[:, None], pairs[:, picks]], axis=1)  # (2, 1 + 10,000, seeds), as measured first
    if name in FUNCTIONS:
        logs = np.log(np.maximum(drawn, NOTHING)).mean(2)
        ratios = np.exp(logs[0] - logs[1])
    else:
        means = np.maximum(drawn.mean(2), HARDLY)
        ratios = means[0] / means[1]
    low, high = np.quantile(ratios[1:], (0.025, 0.975))
    return float(ratios[0]), float(low), float(high)


def main() -> None:
    args = arguments()
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    contenders = list(args.contenders)
    if not find_spec("optuna"):
        print("Optuna is left out: it is not installed here (pip install optuna).", file=sys.stderr)
        contenders = [name for name in contenders if name not in OPTUNA]
    names = args.problems or [*FUNCTIONS, *(TABLES if args.hpo else ())]
    runs, lines = Runs(args.runs, args.hpo), []
    figures: list[dict[str, Any]] = []
    for name in names:
        for contender in contenders:
            by_schedule = {}
            for schedule in args.schedules:
                own = [runs.get(name, contender, schedule, seed, args.trials) for seed in range(args.seeds)]
                values = regrets(name, args.hpo, [reached(run, args.trials) for run in own])
                center = float(np.median(values) if name in FUNCTIONS else np.mean(values))
                row = {"problem": name, "contender": contender, "schedule": schedule, "regrets": values}
                row |= {"regret": center, "clock": float(np.mean([run["clock"] for run in own]))}
                by_schedule[schedule] = row | {"cpu": float(np.mean([run["cpu"] for run in own]))}
            line = [name, contender]
            for schedule, row in by_schedule.items():
                text = f"{row['regret']:.3g}"
                if schedule != "one" and "one" in by_schedule:
                    row["share"] = share(name, row["regrets"], by_schedule["one"]["regrets"])
                    text += "; {:.2f} ({:.2f}, {:.2f})".format(*row["share"])
                line.append(text)
            figures += by_schedule.values()
            lines.append([*line, f"{max(row['cpu'] for row in by_schedule.values()):.1f}"])
    columns = ["problem", "contender", *args.schedules, "CPU s a search"]
    show(f"Regret after {args.trials} trials; ratio to one worker's (95%); {args.seeds} seeds", columns, lines)
    write(args.out, "search_parallel", figures, trials=args.trials, seeds=args.seeds)


if __name__ == "__main__":
    main()
