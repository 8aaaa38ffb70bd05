"""One search with several workers on a simulated clock: problems, contenders, and the loop that is the same for all.

A contender is asked for a setting as often as a worker is free, and told a loss when the clock says that its trial is
done. Durations are lognormal, drawn by the seed and the trial's number alone, so that all contenders have the same
ones. With `batches` all workers wait for the slowest.
"""

from __future__ import annotations

import heapq
import importlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from hpo_peer import Modelopt

Setting = Mapping[str, Any]
SPREAD = 1.0  # deviation of the logarithm of a duration: one trial in twenty takes more than five times the median
WORKERS = 5
SCHEDULES = ("one", "asynchronous", "batches")


class Problem(Protocol):
    """A problem of ../shared/bench/hpo: `problems.py` there, or one of the functions below."""

    name: str
    space: Sequence[Mapping[str, Any]]

    def evaluate(self, config: Setting, seed: int = 0) -> float:
        """The loss that the search is told."""

    def true(self, config: Setting) -> float:
        """The same without noise."""


class Function:
    """A function of numbers x0, x1, ... in a box."""

    def __init__(self, name: str, low: Sequence[float], high: Sequence[float], of: Callable[[Any], float]) -> None:
        self.name, self._of = name, of
        self.space: Sequence[Mapping[str, Any]] = [
            {"name": f"x{i}", "type": "float", "low": a, "high": b}
            for i, (a, b) in enumerate(zip(low, high, strict=True))
        ]

    def true(self, config: Setting) -> float:
        return float(self._of(np.array([config[p["name"]] for p in self.space])))

    def evaluate(self, config: Setting, seed: int = 0) -> float:
        return self.true(config)


def branin(x: Any) -> float:
    return float(
        (x[1] - 5.1 / (4 * np.pi**2) * x[0] ** 2 + 5 / np.pi * x[0] - 6) ** 2
        + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x[0])
        + 10
    )


_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(x: Any) -> float:
    return float(-np.array([1, 1.2, 3, 3.2]) @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


def ackley(x: Any) -> float:
    return float(
        20 + np.e - 20 * np.exp(-0.2 * np.sqrt((x**2).mean())) - np.exp(np.cos(2 * np.pi * x).mean())
    )  # fmt: skip


FUNCTIONS: dict[str, tuple[Function, float]] = {
    "branin": (Function("branin", [-5, 0], [10, 15], branin), 0.39788735772973816),
    "hartmann6": (Function("hartmann6", [0] * 6, [1] * 6, hartmann6), -3.322368011415515),
    "ackley5": (Function("ackley5", [-32.768] * 5, [32.768] * 5, ackley), 0.0),
}
"""Each with its minimum."""


def problem_of(name: str, hpo: Path | None) -> Problem:
    """A function by its name, else a problem of the folder `hpo`."""
    if name in FUNCTIONS:
        return FUNCTIONS[name][0]
    if hpo is None:
        raise SystemExit(f"{name} is no function of this benchmark: --hpo says where ../shared/bench/hpo is.")
    if str(hpo) not in sys.path:
        sys.path.insert(0, str(hpo))
    loaded: Problem = importlib.import_module("problems").load(name)
    return loaded


class Contender(Protocol):
    """Asked for settings with a token each, by which it is told their losses."""

    def ask(self) -> tuple[Any, Setting]: ...

    def tell(self, token: Any, loss: float) -> None: ...


class Ours(Modelopt):
    """A sampler of modelopt's, by ask and tell."""

    def __init__(self, sampler: Any, space: Sequence[Mapping[str, Any]], seed: int) -> None:
        self.sampler = sampler  # type: ignore[misc]
        super().__init__(space, seed, 0)

    def ask(self) -> Any:
        setting = super().ask()
        return self._trial, setting

    def tell(self, token: Any, loss: float) -> None:
        self._study.tell(token, loss)


class Optuna:
    """One of Optuna's samplers; trials that are under way are known to it as running ones."""

    def __init__(self, name: str, options: Mapping[str, Any], space: Sequence[Mapping[str, Any]], seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kinds = optuna.distributions
        self._distributions: dict[str, Any] = {
            p["name"]: kinds.CategoricalDistribution(p["choices"])
            if p["type"] == "categorical"
            else (kinds.IntDistribution if p["type"] == "int" else kinds.FloatDistribution)(
                p["low"], p["high"], log=bool(p.get("log"))
            )
            for p in space
        }
        self._study = optuna.create_study(sampler=getattr(optuna.samplers, name)(seed=seed, **options))

    def ask(self) -> tuple[Any, Setting]:
        trial = self._study.ask(self._distributions)
        return trial, trial.params

    def tell(self, token: Any, loss: float) -> None:
        self._study.tell(token, loss)


OPTUNA: dict[str, tuple[str, dict[str, Any]]] = {
    "Optuna TPE": ("TPESampler", {"constant_liar": True}),
    "Optuna GP": ("GPSampler", {}),
}
"""Name -> class and options. The process of Optuna 5 takes the joint logarithmic expected improvement (qLogEI) of a
candidate and the running trials, by quasi-Monte Carlo."""


def contender_of(name: str, space: Sequence[Mapping[str, Any]], seed: int) -> Contender:
    if name in OPTUNA:
        warnings.simplefilter("ignore")  # constant_liar is experimental
        return Optuna(*OPTUNA[name], space, seed)
    return Ours(name, space, seed)


def durations(seed: int, count: int) -> list[float]:
    """Of trial 0, 1, ...; the median is 1."""
    drawn: list[float] = np.random.default_rng([seed, 18]).lognormal(0.0, SPREAD, count).tolist()
    return drawn


def searched(contender: Contender, problem: Problem, schedule: str, seed: int, trials: int) -> dict[str, Any]:
    """Observed and true losses in the order of completion, the clock at the end, CPU seconds of the contender."""
    workers = 1 if schedule == "one" else WORKERS
    times = durations(seed, trials)
    due: list[tuple[float, int, Any, Setting]] = []
    observed: list[float] = []
    true: list[float] = []
    clock, asked, cpu = 0.0, 0, 0.0
    while len(observed) < trials:
        free = workers - len(due) if schedule != "batches" or not due else 0
        for _ in range(min(free, trials - asked)):
            start = time.process_time()
            token, setting = contender.ask()
            cpu += time.process_time() - start
            heapq.heappush(due, (clock + times[asked], asked, token, setting))
            asked += 1
        clock, number, token, setting = heapq.heappop(due)
        loss = problem.evaluate(setting, 1000 * seed + number)
        start = time.process_time()
        contender.tell(token, loss)
        cpu += time.process_time() - start
        observed.append(loss)
        true.append(problem.true(setting))
    return {"observed": observed, "true": true, "clock": clock, "cpu": cpu}


def reached(run: Mapping[str, Any], trials: int) -> float:
    """The true loss of the trial that looks best after so many."""
    observed = run["observed"][:trials]
    loss: float = run["true"][min(range(len(observed)), key=observed.__getitem__)]
    return loss if math.isfinite(loss) else math.inf
