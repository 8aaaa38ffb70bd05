"""Rivals on LCBench, in an environment of their own: prints JSON, rival -> task -> best accuracy so far, seed by seed.

Usage: PYTHON _lcbench_peers.py RIVAL MOST SEEDS TASK...   (needs onnxruntime, and optuna or dehb)
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from _lcbench import SPACE, TOTAL, Task


class Budget:
    """Counts epochs, and keeps the best accuracy after each."""

    def __init__(self, task: str, most: int) -> None:
        self.task, self.left, self.best = Task(task), most * TOTAL, [0.0]

    def curve(self, params: dict[str, Any]) -> list[float]:
        return [metrics["accuracy"] for _, metrics in self.task.curve(params)]

    def spend(self, accuracy: float) -> bool:
        """An epoch; False when none is left after it."""
        self.best.append(max(self.best[-1], accuracy))
        self.left -= 1
        return self.left > 0


def optuna_hyperband(budget: Budget, seed: int) -> None:
    """Its default TPE with its Hyperband pruner."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=TOTAL, reduction_factor=3)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner, study_name=f"seed {seed}"
    )
    while budget.left > 0:
        trial = study.ask()
        params = {name: _suggest(trial, name, spec) for name, spec in SPACE.items()}
        state = optuna.trial.TrialState.COMPLETE
        accuracy = 0.0
        for epoch, accuracy in enumerate(budget.curve(params), start=1):
            trial.report(accuracy, epoch)
            if not budget.spend(accuracy):
                return
            if trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, accuracy if state == optuna.trial.TrialState.COMPLETE else None, state=state)


def _suggest(trial: Any, name: str, spec: dict[str, Any]) -> Any:
    if "int" in spec:
        return trial.suggest_int(name, *spec["int"], log=spec.get("log", False))
    return trial.suggest_float(name, *spec["float"], log=spec.get("log", False))


def dehb(budget: Budget, seed: int) -> None:
    """By ask and tell; a longer training begins anew, as its settings are new, too."""
    import ConfigSpace
    from dehb import DEHB

    space = ConfigSpace.ConfigurationSpace(seed=seed)
    for name, spec in SPACE.items():
        kind = ConfigSpace.Integer if "int" in spec else ConfigSpace.Float
        space.add(kind(name, tuple(spec.get("int") or spec["float"]), log=spec.get("log", False)))
    with tempfile.TemporaryDirectory() as folder:
        found = DEHB(
            f=None, cs=space, dimensions=len(SPACE), min_fidelity=1, max_fidelity=TOTAL, eta=3, n_workers=1,
            seed=seed, output_path=folder, log_level="ERROR",
        )  # fmt: skip
        while True:
            job = found.ask()
            epochs = max(1, round(float(job["fidelity"])))
            curve = budget.curve(dict(job["config"]))[:epochs]
            for accuracy in curve:
                if not budget.spend(accuracy):
                    return
            found.tell(job, {"fitness": -curve[-1], "cost": float(epochs)})


RIVALS: dict[str, Callable[[Budget, int], None]] = {"optuna": optuna_hyperband, "dehb": dehb}


def main() -> None:
    rival, most, seeds, *tasks = sys.argv[1:]
    found: dict[str, list[list[float]]] = {}
    for task in tasks:
        found[task] = []
        for seed in range(int(seeds)):
            budget = Budget(task, int(most))
            RIVALS[rival](budget, seed)
            found[task].append(budget.best[1 : int(most) * TOTAL + 1])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
