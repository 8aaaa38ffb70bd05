"""A sequential search that is cut off after any event of its log, and resumed, ends as one that was not.

(A kill leaves the log as it was after some event. tests/cli/test_killed.py sends a real one.)
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.schedulers._sampler_and_stopper import SamplerAndStopper
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.stoppers.median import Median
from modelopt_cli.tuning.stoppers.patience import Patience
from modelopt_cli.tuning.study.study import Study
from tests.support.search_objectives import CurveObjective
from tests.support.study_logs import replayed

SPACE = {"x": {"float": [0, 1]}, "y": {"choice": [{"type": "a"}, {"type": "b", "z": {"int": [1, 9]}}]}}


def run(path: Path, sampler: Any, stopper: Any, trials: int) -> list[Any]:
    """The trials of a search, without what a clock decides."""
    with Study(SPACE, sampler, seed=6, path=path) as study:
        Search(study, Serial().open(CurveObjective(5)), trials=trials, stopper=stopper).run()
        return [
            (t.number, t.params, t.seed, str(t.state), t.curve, t.metrics, t.losses, t.reason) for t in study.trials
        ]


def cut(whole: Path, path: Path, events: int) -> None:
    """What a kill after so many events leaves."""
    shutil.copy(whole, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE sequence > ?", [events])


def length(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "stopper", "trials", "step"),
    [
        ("random", None, 5, 1),
        ("sobol", Asha(factor=2), 5, 2),
        ("tpe", Median(startup_trials=2), 11, 11),
        ("bayesian", Asha(factor=2), 11, 13),
        ({"type": "bayesian", "initial_points": 2}, Patience(reports=1, min_delta=0.1), 6, 9),
    ],
    ids=["random", "sobol and asha", "tpe and median", "bayesian and asha", "bayesian and patience"],
)
def test_cut_off_anywhere_it_ends_the_same(tmp_path: Path, sampler: Any, stopper: Any, trials: int, step: int) -> None:
    whole = run(tmp_path / "whole", sampler, stopper, trials)
    assert len(whole) == trials
    if stopper is not None:
        assert "stopped" in [state for _, _, _, state, *_ in whole]
    events = length(tmp_path / "whole")
    for after in range(0, events, step):
        path = tmp_path / f"{after}"
        cut(tmp_path / "whole", path, after)
        assert run(path, sampler, stopper, trials) == whole, f"cut off after event {after} of {events}"
    again = replayed(path, SamplerAndStopper(stopper=stopper))
    assert again.first is None
    assert again.asked["suggestions"] == trials
