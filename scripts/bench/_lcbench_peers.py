"""Rivals on LCBench, in an environment of their own.

Usage: PYTHON _lcbench_peers.py RIVAL MOST < JOBS   (needs onnxruntime and the rival's package)

A line of JOBS is `[task, seed]`; a line of what it prints is that job with the best accuracy after each epoch and the
CPU seconds that it took. All rivals pay for an epoch alike, and none twice: a setting that was trained before goes on
where it was, wherever a rival returns to it (SMAC's promotions, and DEHB's in its first brackets). Optuna's pruner and
Syne Tune's ASHA know no pause: a trial goes on until it is stopped for good.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from _lcbench import SPACE, TOTAL, Task
from _suggest import suggest


class SpentError(Exception):
    """No epoch is left."""


class Budget:
    """Counts epochs, and keeps the best accuracy after each."""

    def __init__(self, task: str, most: int) -> None:
        self.task, self.most, self.best = Task(task), most * TOTAL, [0.0]
        self._curves: dict[tuple[Any, ...], list[float]] = {}
        self._trained: dict[tuple[Any, ...], int] = {}

    def train(self, params: dict[str, Any], epochs: int = TOTAL) -> Iterator[tuple[int, float]]:
        """(epoch, accuracy) until `epochs`; those that the setting has behind it cost nothing. Raises SpentError."""
        key = tuple(params[name] for name in SPACE)
        if key not in self._curves:
            self._curves[key] = [metrics["accuracy"] for _, metrics in self.task.curve(params)]
        for epoch, accuracy in enumerate(self._curves[key][:epochs], start=1):
            if epoch > self._trained.get(key, 0):
                if len(self.best) > self.most:
                    raise SpentError
                self.best.append(max(self.best[-1], accuracy))
                self._trained[key] = epoch
            yield epoch, accuracy

    def last(self, params: dict[str, Any], fidelity: float) -> tuple[int, float]:
        """The last of `train`, at a fidelity that need not be a whole number."""
        *_, last = self.train(params, min(TOTAL, max(1, round(fidelity))))
        return last


def optuna_hyperband(budget: Budget, seed: int) -> None:
    """Its default TPE with its Hyperband pruner."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=TOTAL, reduction_factor=3)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner, study_name=f"seed {seed}"
    )
    while True:
        trial = study.ask()
        state, accuracy = optuna.trial.TrialState.COMPLETE, 0.0
        for epoch, accuracy in budget.train({name: suggest(trial, name, spec) for name, spec in SPACE.items()}):
            trial.report(accuracy, epoch)
            if trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, accuracy if state == optuna.trial.TrialState.COMPLETE else None, state=state)


def dehb(budget: Budget, seed: int) -> None:
    """By ask and tell."""
    from dehb import DEHB  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        optimizer = DEHB(
            f=None, cs=_space(seed), dimensions=len(SPACE), min_fidelity=1, max_fidelity=TOTAL, eta=3, n_workers=1,
            seed=seed, output_path=folder, log_level="ERROR",
        )  # fmt: skip
        while True:
            job = optimizer.ask()
            epochs, accuracy = budget.last(dict(job["config"]), job["fidelity"])
            optimizer.tell(job, {"fitness": -accuracy, "cost": float(epochs)})


def smac(budget: Budget, seed: int) -> None:
    """Its multi-fidelity facade: a random forest and Hyperband, by ask and tell."""
    from smac import MultiFidelityFacade, Scenario  # type: ignore[import-not-found]
    from smac.runhistory import TrialValue  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            _space(seed), deterministic=True, min_budget=1, max_budget=TOTAL, n_trials=100_000, seed=seed,
            output_directory=folder,
        )  # fmt: skip
        facade = MultiFidelityFacade(scenario, lambda config, seed, budget: 0.0, overwrite=True, logging_level=False)
        while True:
            job = facade.ask()
            epochs, accuracy = budget.last(dict(job.config), job.budget)
            facade.tell(job, TrialValue(cost=-accuracy, time=float(epochs)), save=False)


def _space(seed: int) -> Any:
    import ConfigSpace  # type: ignore[import-not-found]

    space = ConfigSpace.ConfigurationSpace(seed=seed)
    for name, spec in SPACE.items():
        kind = ConfigSpace.Integer if "int" in spec else ConfigSpace.Float
        space.add(kind(name, tuple(spec.get("int") or spec["float"]), log=spec.get("log", False)))
    return space


def syne_tune(name: str) -> Callable[[Budget, int], None]:
    """A scheduler of Syne Tune, driven as its own tuner drives it with one worker: a report an epoch."""

    def run(budget: Budget, seed: int) -> None:
        import datetime

        import numpy as np
        from syne_tune import config_space  # type: ignore[import-not-found]
        from syne_tune.backend.trial_status import Trial  # type: ignore[import-not-found]
        from syne_tune.optimizer import baselines  # type: ignore[import-not-found]
        from syne_tune.optimizer.scheduler import SchedulerDecision  # type: ignore[import-not-found]

        np.random.seed(seed)  # it draws from the global state, too
        kinds = {"int": (config_space.randint, config_space.lograndint)}
        kinds["float"] = (config_space.uniform, config_space.loguniform)
        space = {
            key: kinds[kind][spec.get("log", False)](*spec[kind])
            for key, spec in SPACE.items()
            for kind in [next(iter(spec))]
        }
        scheduler = getattr(baselines, name)(
            space, metric="accuracy", time_attr="epoch", max_t=TOTAL, do_minimize=False, random_seed=seed
        )
        number = 0
        while True:
            trial = Trial(number, scheduler.suggest().config, datetime.datetime.now())
            scheduler.on_trial_add(trial)
            number += 1
            for epoch, accuracy in budget.train(trial.config):
                decision = scheduler.on_trial_result(trial, {"accuracy": accuracy, "epoch": epoch})
                if decision == SchedulerDecision.STOP:  # which the last epoch brings, too
                    scheduler.on_trial_remove(trial)
                    break

    return run


RIVALS: dict[str, Callable[[Budget, int], None]] = {
    "optuna": optuna_hyperband,
    "dehb": dehb,
    "smac": smac,
    "syne_asha": syne_tune("ASHA"),
    "syne_bohb": syne_tune("BOHB"),
}


def main() -> None:
    rival, most = sys.argv[1], int(sys.argv[2])
    for line in sys.stdin:
        task, seed = json.loads(line)
        budget, start = Budget(task, most), time.process_time()
        try:
            RIVALS[rival](budget, seed)
        except SpentError:
            best = [round(value, 6) for value in budget.best[1:]]
        spent = time.process_time() - start
        record = {"method": rival, "task": task, "seed": seed, "most": most, "cpu": spent, "best": best}
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
