"""Runs on LCBench that were measured, as JSON lines: `{method, task, seed, most, cpu, best}`, best after each epoch."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _lcbench import TOTAL, Task

Job = tuple[str, int]  # task, seed


class Runs:
    """Kept in a folder, in whichever of its *.jsonl they stand, or in memory only.

    A budget is read from the shortest run that goes so far: one that was planned for that budget, where there is one.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._found: dict[tuple[str, Job], dict[int, dict[str, Any]]] = defaultdict(dict)  # by the length of the run
        for file in sorted(folder.glob("*.jsonl")) if folder is not None else ():
            for line in file.read_text(encoding="utf-8").splitlines():
                self._remember(json.loads(line))

    def _remember(self, record: dict[str, Any]) -> None:
        self._found[record["method"], (record["task"], record["seed"])][record["most"]] = record

    def add(self, record: dict[str, Any]) -> None:
        """One more, written at once."""
        self._remember(record)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = re.sub(r"\W+", "_", record["method"]).strip("_")
            with (self._folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def missing(self, method: str, tasks: Sequence[str], seeds: int, most: int, *, planned: bool = False) -> list[Job]:
        """Jobs to do, seed by seed, so that what is cut off has some seeds of all tasks.

        planned: a longer run will not do, as the method depends on what it is told that it may spend.
        """
        jobs = [(task, seed) for seed in range(seeds) for task in tasks]
        if planned:
            return [job for job in jobs if most not in self._found[method, job]]
        return [job for job in jobs if max(self._found[method, job], default=0) < most]

    def summary(self, method: str, tasks: Sequence[str], seeds: int, budgets: Sequence[int]) -> dict[str, Any]:
        """Mean regret over tasks at each budget, over those seeds that have been that far on every task."""
        summary: dict[str, Any] = {"mean": {}, "error": {}, "seeds": {}, "curve": []}
        for budget in budgets:
            runs = {seed: [self._run(method, (task, seed), budget) for task in tasks] for seed in range(seeds)}
            curves = [[_regrets(run, budget) for run in each] for each in runs.values() if all(each)]
            if curves:
                by_seed = np.array(curves)[:, :, -1].mean(axis=1)
                summary["mean"][str(budget)] = float(by_seed.mean())
                summary["error"][str(budget)] = half_width(by_seed)
                summary["seeds"][str(budget)] = len(by_seed)
                summary["curve"] = [float(value) for value in np.mean(curves, (0, 1))[TOTAL // 2 - 1 :: TOTAL // 2]]
        held = [run for (name, _), runs in self._found.items() for run in runs.values() if name == method]
        summary["cpu_per_training"] = float(np.median([run["cpu"] / run["most"] for run in held])) if held else None
        return summary

    def _run(self, method: str, job: Job, budget: int) -> dict[str, Any]:
        """The shortest that goes so far; empty where there is none."""
        runs = self._found[method, job]
        return runs[min(most for most in runs if most >= budget)] if max(runs, default=0) >= budget else {}


def _regrets(run: Mapping[str, Any], budget: int) -> np.ndarray:
    return Task(run["task"]).regret(run["best"][: budget * TOTAL])


def half_width(values: np.ndarray) -> float:
    """Of the 95% interval of their mean (Student's t); NaN for a single one."""
    from scipy.stats import t

    count = len(values)
    return float(t.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5) if count > 1 else float("nan")
