"""Seconds per suggestion: `_sampler_run.py modelopt|optuna SAMPLER HISTORY COUNT`. Prints JSON.

Fills a study with HISTORY random settings and their values, then times COUNT rounds of ask and tell.
"""

from __future__ import annotations

import json
import math
import sys
import time
from statistics import median
from typing import Any

import numpy as np

FLOATS = {"lr": (1e-4, 1.0, True), "momentum": (0.0, 0.99, False), "dropout": (0.0, 0.5, False)}
WIDTH, BATCHES = (16, 256), [16, 32, 64, 128]


def value(setting: dict[str, Any]) -> float:
    """Smooth, with one minimum, and every parameter matters."""
    loss: float = (
        (math.log10(setting["lr"]) + 1.5) ** 2 + (setting["momentum"] - 0.8) ** 2 + (setting["dropout"] - 0.2) ** 2
    )
    return loss + 0.1 * (math.log2(setting["width"]) - 6.5) ** 2 + 0.05 * abs(math.log2(setting["batch"]) - 5)


def history(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    settings = []
    for _ in range(count):
        setting: dict[str, Any] = {
            name: float(math.exp(rng.uniform(math.log(low), math.log(high))) if log else rng.uniform(low, high))
            for name, (low, high, log) in FLOATS.items()
        }
        settings.append({**setting, "width": int(rng.integers(*WIDTH)), "batch": int(rng.choice(BATCHES))})
    return settings


def with_modelopt(sampler: str, settings: list[dict[str, Any]], count: int) -> list[float]:
    from modelopt_cli import Study

    space: dict[str, Any] = {name: {"float": [low, high], "log": log} for name, (low, high, log) in FLOATS.items()}
    space |= {"width": {"int": list(WIDTH), "log": True}, "batch": BATCHES}
    study, seconds = Study(space, sampler, "minimize loss"), []
    for setting in settings:
        study.queue(setting)
        trial = study.ask()
        study.tell(trial, value(trial.params))
    for _ in range(count):
        start = time.perf_counter()
        trial = study.ask()
        study.tell(trial, value(trial.params))
        seconds.append(time.perf_counter() - start)
    return seconds


def with_optuna(sampler: str, settings: list[dict[str, Any]], count: int) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(low, high, log=log) for name, (low, high, log) in FLOATS.items()
    }
    distributions["width"] = optuna.distributions.IntDistribution(*WIDTH, log=True)
    distributions["batch"] = optuna.distributions.CategoricalDistribution(BATCHES)
    study, seconds = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=0)), []
    for setting in settings:
        trial = optuna.trial.create_trial(params=setting, distributions=distributions, value=value(setting))
        study.add_trial(trial)
    for _ in range(count):
        start = time.perf_counter()
        asked = study.ask(distributions)
        study.tell(asked, value(asked.params))
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    kind, sampler, size, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    contender = {"modelopt": with_modelopt, "optuna": with_optuna}[kind]
    seconds = contender(sampler, history(size), count)
    # The first suggestion also pays for imports; it is told apart.
    print(json.dumps({"first": seconds[0], "median": median(seconds[1:]), "seconds": seconds}))


if __name__ == "__main__":
    main()
