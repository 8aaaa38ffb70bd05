"""One search: `_front_run.py modelopt|optuna SAMPLER PROBLEM SEED COUNT`. Prints its losses and seconds as JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

from _front_problems import DIGITS, Problem, problems


def with_modelopt(sampler: str, problem: Problem, seed: int, count: int) -> list[dict[str, Any]]:
    from modelopt_cli import Study

    space: dict[str, Any] = {f"x{i}": {"float": [0.0, 1.0]} for i in range(problem.dimension)}
    space = space or {name: {"ordinal": values} for name, values in DIGITS.items()}
    goals = [f"minimize loss{i}" for i in range(problem.objectives)]
    constraints = [f"slack{i} <= 0" for i in range(problem.constraints)]
    study, rows = Study(space, sampler, goals, seed, constraints=constraints), []
    for _ in range(count):
        start = time.perf_counter()
        trial = study.ask()
        seconds = time.perf_counter() - start
        losses, slacks = problem.evaluate(trial.params)
        metrics = {f"loss{i}": loss for i, loss in enumerate(losses)}
        study.tell(trial, metrics | {f"slack{i}": slack for i, slack in enumerate(slacks)})
        rows.append({"losses": losses, "slacks": slacks, "seconds": seconds})
    return rows


def with_optuna(sampler: str, problem: Problem, seed: int, count: int) -> list[dict[str, Any]]:
    import warnings

    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options: dict[str, Any] = {"seed": seed}
    if problem.constraints:
        options["constraints_func"] = lambda trial: trial.user_attrs["slacks"]
    if sampler == "NSGAIISampler":
        options["population_size"] = 20  # its default of 50 would leave two generations
    if sampler == "TPESampler":
        options["multivariate"] = True
    study = optuna.create_study(
        directions=["minimize"] * problem.objectives, sampler=getattr(optuna.samplers, sampler)(**options)
    )
    distributions: dict[str, Any] = {
        f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(problem.dimension)
    }
    if not distributions:  # numbers by their place, so that the order is known
        distributions = {name: optuna.distributions.IntDistribution(0, len(v) - 1) for name, v in DIGITS.items()}
    rows = []
    for _ in range(count):
        start = time.perf_counter()
        trial = study.ask(distributions)
        seconds = time.perf_counter() - start
        setting = trial.params if problem.dimension else {name: DIGITS[name][at] for name, at in trial.params.items()}
        losses, slacks = problem.evaluate(setting)
        trial.set_user_attr("slacks", slacks)
        bad = any(math.isnan(loss) for loss in losses)
        start = time.perf_counter()
        study.tell(trial, None if bad else losses, state=optuna.trial.TrialState.FAIL if bad else None)
        seconds += time.perf_counter() - start
        rows.append({"losses": losses, "slacks": slacks, "seconds": seconds})
    return rows


def main() -> None:
    kind, sampler, name, seed, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    contender = {"modelopt": with_modelopt, "optuna": with_optuna}[kind]
    print(json.dumps(contender(sampler, problems()[name], seed, count)))


if __name__ == "__main__":
    main()
