"""What one trial does to its process no other trial sees: results are those of a trial alone, bit by bit."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Trial
from tests.support.search_objectives import MessyObjective, settings_seen


def measured(executor: Any, values: list[int]) -> dict[int, Trial]:
    study = Study({"x": [0, 1, 2, 3]}, "random", initial=[{"x": value} for value in values])
    Search(study, executor.open(MessyObjective()), trials=len(values)).run()
    return {trial.number: trial for trial in study.trials}


@pytest.mark.slow
@pytest.mark.parametrize("executor", [Serial(), Processes()], ids=["serial", "processes"])
def test_after_any_other_a_trial_gives_what_it_gives_alone(executor: Any) -> None:
    alone, after = measured(executor, [3, 2, 1]), measured(executor, [3, 0, 1])
    assert after[1].params == {"x": 0}
    assert after[1].metrics["grad"] == 0.0, "it has changed something"
    assert after[2].metrics == alone[2].metrics
    assert alone[1].metrics["random"] != alone[2].metrics["random"], "each has random numbers of its own"


def test_after_a_serial_search_all_is_as_it_was() -> None:
    import random

    import numpy as np
    import torch

    def drawn() -> tuple[object, ...]:
        numpy_state: Any = np.random.get_state()
        state = random.getstate(), numpy_state[1].tolist(), torch.random.get_rng_state().tolist()
        return (
            *state,
            {name: value for name, value in settings_seen().items() if name not in ("random", "numpy", "torch")},
        )

    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    before = drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.random.set_rng_state(states[2])
    measured(Serial(), [0, 1])
    assert drawn() == before
