"""With how many threads trials in worker processes compute: a share of the cores, and no more than was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from modelopt_cli.tuning.executors import _processes
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.objective import Objective, Run, StepReport
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.study.study import Study


class Sees(Run):
    """Tells what its process, and each program that it starts, is allowed."""

    def advance(self, until: int) -> list[StepReport]:
        self.step = self.total
        return [(1, self.metrics())]

    def metrics(self) -> dict[str, float]:
        return {"loss": float(os.environ["OMP_NUM_THREADS"])}


class SeesObjective(Objective):
    def open(self, params: Mapping[str, Any], seed: int, state: Any = None) -> Run:
        return Sees()


@pytest.mark.parametrize(
    ("asked", "workers", "threads"),
    [
        (None, 1, 8),
        (None, 3, 2),
        (None, 20, 1),
        ("1", 2, 1),
        ("3", 2, 3),
        ("16", 2, 4),
        ("2,1", 1, 2),
        ("0", 2, 4),
        ("", 2, 4),
        ("many", 2, 4),
    ],
)
def test_a_share_of_the_cores_and_no_more_than_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, workers: int, threads: int
) -> None:
    monkeypatch.setattr(_processes, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert _processes.threads_each(workers) == threads


def test_trials_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processes, "usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    study = Study({"x": [0, 1]}, "grid")
    Search(study, Processes().open(SeesObjective(), workers=2), trials=2).run()
    assert [dict(trial.metrics) for trial in study.trials] == [{"loss": 3.0}] * 2
