"""Diverged trials that end with a finite loss: what they cost a search, beside what the same ones cost as NaN.

Four functions, two of them maximised or on another scale; 30 trials. Bad are: one trial (number 3), 3% or 30% of the
trials by chance, or a region of the space. They answer NaN, 1e6 or 1e30 (of an objective that is maximised -1e6, ...).
The figure is the median over seeds of how far the best good trial is from the optimum; the ratio is that to NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from _common import options, show, write

from modelopt_cli.tuning.study.study import Study

TRIALS = 30
VALUES = (math.nan, 1e6, 1e30)
KINDS = ("one", "3%", "30%", "region")
Params = Mapping[str, Any]

_HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_WIDTHS = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def mixed(p: Params) -> float:
    """A number, a category and a whole number; 0 at best."""
    return float((p["x"] - 1) ** 2 + (p["k"] != "b") + abs(math.log(p["n"] / 10)))


def branin(p: Params) -> float:
    x, y = 15 * p["x0"] - 5, 15 * p["x1"]
    valley: float = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return valley + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


def hartmann(p: Params) -> float:
    """Hartmann's function in six dimensions, to be maximised: minus its distance from the optimum."""
    x = np.array([p[f"x{i}"] for i in range(6)])
    return float((_HEIGHTS * np.exp(-(_WIDTHS * (x - _CENTRES) ** 2).sum(1))).sum()) - 3.32237


def ackley(p: Params) -> float:
    """A thousandth of Ackley's function in four dimensions."""
    x = np.array([40 * p[f"x{i}"] - 15 for i in range(4)])
    bowl = 20 - 20 * math.exp(-0.2 * math.sqrt(float((x * x).mean())))
    return 1e-3 * (bowl + math.e - math.exp(float(np.cos(2 * np.pi * x).mean())))


def unit(count: int) -> dict[str, Any]:
    return {f"x{i}": {"float": [0.0, 1.0]} for i in range(count)}


@dataclass(frozen=True)
class Problem:
    """`region`: where every trial is bad, in the rows of that kind."""

    space: dict[str, Any]
    function: Callable[[Params], float]
    region: Callable[[Params], bool]
    maximize: bool = False


PROBLEMS = {
    "mixed": Problem(
        {
            "x": {"float": [-5, 5]},
            "k": ["a", "b", None, True],
            "n": {"int": [1, 100], "log": True},
        },
        mixed,
        lambda p: p["x"] < -1,
    ),
    "branin": Problem(unit(2), branin, lambda p: p["x0"] > 0.75),
    "hartmann": Problem(unit(6), hartmann, lambda p: p["x2"] > 0.7, maximize=True),
    "ackley": Problem(unit(4), ackley, lambda p: p["x1"] > 0.7),
}


def gap(problem: Problem, sampler: str, kind: str, value: float, seed: int) -> float:
    """How far the best good trial is from the optimum."""
    sign = -1.0 if problem.maximize else 1.0
    study = Study(problem.space, sampler, "maximize value" if problem.maximize else "minimize value", seed=seed)
    rng = np.random.default_rng(1000 + seed)
    share = {"3%": 0.03, "30%": 0.3}.get(kind, 0.0)
    best = math.inf
    for number in range(TRIALS):
        trial = study.ask()
        own = problem.function(trial.params)
        by_chance = rng.random() < share
        bad = (number == 3) if kind == "one" else problem.region(trial.params) if kind == "region" else by_chance
        best = best if bad else min(best, sign * own)
        study.tell(trial, sign * value if bad else own)
    return best


def main() -> None:
    """Run, print, write."""
    args = options(__doc__, repeats=20)
    figures: dict[str, Any] = {}
    lines = []
    for name, problem in PROBLEMS.items():
        for sampler in ("bayesian", "tpe"):
            plain = median(gap(problem, sampler, "none", 0.0, seed) for seed in range(args.repeats))
            figures[f"{name}, {sampler}, none bad"] = plain
            lines.append([name, sampler, "none", "", f"{plain:.4g}", ""])
            print(*lines[-1], flush=True)
            for kind in KINDS:
                gaps = [
                    median(gap(problem, sampler, kind, value, seed) for seed in range(args.repeats)) for value in VALUES
                ]
                figures[f"{name}, {sampler}, {kind}"] = dict(zip(map(str, VALUES), gaps, strict=True))
                for value, reached in zip(VALUES, gaps, strict=True):
                    lines.append([name, sampler, kind, f"{value:g}", f"{reached:.4g}", f"{reached / gaps[0]:.2f}"])
                    print(*lines[-1], flush=True)
    columns = ["function", "sampler", "bad", "answer", "gap", "of NaN's"]
    show(f"Distance from the optimum after {TRIALS} trials, median of {args.repeats} seeds", columns, lines)
    write(args.out, "search_divergence", figures)


if __name__ == "__main__":
    main()
