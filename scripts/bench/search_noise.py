"""Noisy objectives: what the setting that a search names best is really worth, with and without `tuning.repeats`.

A sphere in three and Rosenbrock's function in four parameters with normal noise, and scikit-learn's extra trees (two
trees) on its wine data, where a seed decides a lot. What a setting is really worth is the function without noise, or
the mean of 60 seeds. `random` and `bayesian`, 50 trials each, the same noise for both ways. The ratio is that of means
over seeds, and in how many seeds repeats were better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from _common import options, show, write

from modelopt_cli.tuning.study.study import Study

TRIALS = 50
Evaluate = Callable[[Mapping[str, Any], np.random.Generator], float]
Worth = Callable[[Mapping[str, Any]], float]


def sphere(params: Mapping[str, Any]) -> float:
    return float(sum((params[f"x{i}"] - 0.3) ** 2 for i in range(3)))


def rosenbrock(params: Mapping[str, Any]) -> float:
    x = [4.0 * params[f"x{i}"] - 2.0 for i in range(4)]
    return float(sum(100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(x))) / 1000.0


def trees(params: Mapping[str, Any], seed: int) -> float:
    from sklearn.datasets import load_wine
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split

    inputs, targets = load_wine(return_X_y=True)
    x, v, y, w = train_test_split(inputs, targets, test_size=0.5, random_state=0, stratify=targets)
    model = ExtraTreesClassifier(n_estimators=2, random_state=seed, **params).fit(x, y)
    probabilities = np.clip(model.predict_proba(v), 0.01, 0.99)
    return float(log_loss(w, probabilities / probabilities.sum(1, keepdims=True), labels=model.classes_))


def unit(count: int) -> dict[str, Any]:
    return {f"x{i}": {"float": [0.0, 1.0]} for i in range(count)}


def noisy_sphere(sigma: float) -> Evaluate:
    return lambda p, rng: sphere(p) + sigma * rng.standard_normal()


PROBLEMS: dict[str, tuple[dict[str, Any], Evaluate, Worth]] = {
    **{f"sphere, noise {sigma}": (unit(3), noisy_sphere(sigma), sphere) for sigma in (0.02, 0.1, 0.3)},
    "rosenbrock, noise 0.3": (unit(4), lambda p, rng: rosenbrock(p) + 0.3 * rng.standard_normal(), rosenbrock),
    "extra trees on wine": (
        {
            "max_depth": {"int": [1, 8]},
            "min_samples_leaf": {"int": [1, 30]},
            "max_features": {"int": [1, 13]},
            "criterion": ["gini", "entropy"],
        },
        lambda p, rng: trees(p, int(rng.integers(2**31))),
        lambda p: float(np.mean([trees(p, seed) for seed in range(60)])),
    ),
}


def chosen(problem: str, sampler: str, repeats: bool, seed: int) -> tuple[float, int]:
    """What the setting named best is worth, and how many settings were tried."""
    space, evaluate, worth = PROBLEMS[problem]
    study, rng = Study(space, sampler, seed=seed, repeats=repeats), np.random.default_rng(1000 + seed)
    for _ in range(TRIALS):
        trial = study.ask()
        study.tell(trial, evaluate(trial.params, rng))
    assert study.best is not None
    return worth(study.best.params), len({study.space.canonical(trial.params) for trial in study.trials})


def main() -> None:
    """Run, print, write."""
    args = options(__doc__, repeats=10)
    figures: dict[str, Any] = {}
    lines = []
    for problem in PROBLEMS:
        for sampler in ("random", "bayesian"):
            pairs = [[chosen(problem, sampler, way, seed) for way in (False, True)] for seed in range(args.repeats)]
            worths = np.array([[worth for worth, _ in pair] for pair in pairs])
            once, repeated = worths.mean(axis=0)
            better = int((worths[:, 1] < worths[:, 0]).sum())
            settings = float(np.mean([pair[1][1] for pair in pairs]))
            figures[f"{problem}, {sampler}"] = {"once": worths[:, 0].tolist(), "repeats": worths[:, 1].tolist()}
            counted = [f"{better} of {args.repeats}", f"{settings:.0f}"]
            lines.append([problem, sampler, f"{once:.4f}", f"{repeated:.4f}", f"{repeated / once:.2f}", *counted])
            print(*lines[-1], flush=True)
    columns = ["problem", "sampler", "once", "with repeats", "ratio", "better in", "settings"]
    show(f"What the setting named best is worth (lower is better), {TRIALS} trials", columns, lines)
    write(args.out, "search_noise", figures)


if __name__ == "__main__":
    main()
