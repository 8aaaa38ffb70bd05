"""What `auto` takes, rule by rule, each with its reason; and what the plan says of a file that has chosen itself."""

from __future__ import annotations

from typing import Any

import pytest

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.search.automatic import (
    LEAST_FOLDS,
    LEAST_STEPS,
    LEAST_TRIALS,
    LONG_STEP,
    MANY_TRIALS,
    QUICK,
    Choice,
    Workload,
    choose_scheduler,
    choose_stopper,
    ending_advice,
)
from modelopt_cli.tuning.search.automatic_executor import Machine, choose_executor, executor_advice

LONG = {"steps": 20, "seconds": 20 * 60.0}  # epochs of a minute
SHORT = {"steps": 27, "seconds": 27 * 0.02}


def epochs(**given: Any) -> Workload:
    return Workload(**{"reports": "epochs", "steps": 20, "trials": 30, "seconds": 2.0, **given})


@pytest.mark.parametrize(
    ("workload", "value", "why"),
    [
        (epochs(), "asha", "20 epochs, and at epochs 1, 3 and 9 the best third goes on"),
        (epochs(steps=3), "asha", "at epoch 1 the best"),
        (epochs(trials=None), "asha", "20 epochs"),
        (epochs(seconds=None), "asha", "20 epochs"),
        (epochs(steps=LEAST_STEPS - 1), None, "2 epochs are too few"),
        (epochs(steps=1), None, "reports nothing before its end"),
        (Workload("nothing", trials=30), None, "reports nothing before its end"),
        (epochs(unfit="no report tells model.macs before a trial's end"), None, "no report tells model.macs"),
        (epochs(trials=LEAST_TRIALS - 1), None, "4 trials are too few"),
        (epochs(trials=LEAST_TRIALS), "asha", "20 epochs"),
        (epochs(trials=1), None, "1 trial is too few"),
        (epochs(seconds=QUICK * 0.9), None, "takes 9 ms, less than choosing its setting"),
        (epochs(sampler="grid", exact=True), None, "grid is asked for every setting"),
        (epochs(sampler="random"), "hyperband", "random does not learn"),
        (epochs(sampler="sobol"), "hyperband", "sobol does not learn"),
        (epochs(sampler="tpe"), "asha", "20 epochs"),
        (epochs(reports="folds", steps=LEAST_FOLDS), "wilcoxon", "the steps are 5 folds"),
        (epochs(reports="folds", steps=LEAST_FOLDS - 1), None, "4 folds are too few"),
        (epochs(reports="folds", steps=10, sampler="random"), "wilcoxon", "10 folds"),
        (epochs(reports="sizes", steps=3), "asha", "growing parts of the data"),
        (epochs(reports="sizes", steps=2, trials=2, sampler="random"), "asha", "growing parts of the data"),
        (epochs(reports="steps", steps=None, seconds=None), "median", "command.steps says them"),
        (epochs(reports="steps", steps=100, seconds=None), "asha", "steps 1, 3, 9, 27 and 81"),
    ],
)
def test_a_stopper_follows_what_trials_report(workload: Workload, value: str | None, why: str) -> None:
    choice = choose_stopper(workload)
    assert (choice.value, why in choice.reason) == (value, True), choice


@pytest.mark.parametrize(
    ("workload", "value", "why"),
    [
        (epochs(trials=20, **LONG), "freeze_thaw", "an epoch takes 60 s, beside which decisions of 4 ms"),
        (epochs(trials=20, **SHORT), "bohb", "trials report 27 epochs of 20 ms; with short ones"),
        (epochs(trials=20, steps=20, seconds=20 * LONG_STEP), "freeze_thaw", "an epoch takes 0.2 s"),
        (epochs(trials=20, steps=20, seconds=20 * LONG_STEP, workers=8), "bohb", "8 trials at a time"),
        (epochs(trials=20, workers=8, **LONG), "freeze_thaw", "8 at a time"),
        (epochs(trials=20, seconds=None), "bohb", "of a length that is not known yet"),
        (epochs(trials=None, timed=True), "bohb", "20 epochs"),
        (epochs(trials=None), None, "neither tuning.trials nor tuning.timeout"),
        (epochs(trials=MANY_TRIALS), None, "with 50 complete trials to spend bayesian learns enough alone"),
        (epochs(trials=MANY_TRIALS, sampler="random"), "bohb", "20 epochs"),
        (epochs(trials=LEAST_TRIALS - 1), None, "too few"),
        (epochs(steps=2), None, "2 epochs are too few"),
        (epochs(steps=1), None, "reports nothing"),
        (epochs(seconds=0.001), None, "takes 1 ms"),
        (epochs(repeats=True), None, "repeats tries settings again"),
        (epochs(sampler="grid", exact=True), None, "grid is asked for every setting"),
        (epochs(unfit="its stages say little"), None, "its stages say little"),
        (epochs(reports="folds", steps=5), None, "folds of a cross-validation"),
        (epochs(reports="sizes", steps=3), "successive_halving", "3 sizes of the data"),
        (epochs(reports="steps", steps=None, seconds=None), None, "write command.steps"),
        (epochs(reports="steps", steps=40, seconds=None), "bohb", "40 steps"),
    ],
)
def test_a_scheduler_follows_steps_their_time_and_the_trials(workload: Workload, value: str | None, why: str) -> None:
    choice = choose_scheduler(workload)
    assert (choice.value, why in choice.reason) == (value, True), choice


@pytest.mark.parametrize("workload", [epochs(trials=20, **LONG), epochs(trials=20, **SHORT)])
def test_what_is_taken_knows_several_objectives_and_constraints(workload: Workload) -> None:
    taken = choose_scheduler(workload).value
    assert taken is not None
    assert FAMILIES["schedulers"].get(taken).several_objectives  # type: ignore[attr-defined]


def test_the_number_of_workers_changes_no_stopper() -> None:
    assert choose_stopper(epochs(workers=1)) == choose_stopper(epochs(workers=64))


FOUR = Machine(4, "core", free_bytes=16_000_000_000, worker_bytes=500_000_000)


@pytest.mark.parametrize(
    ("machine", "given", "value", "workers", "why"),
    [
        (FOUR, {"trials": 40, "seconds": 10.0}, "processes", 4, "4 cores allow 4 trials of about 10 s at a time"),
        (FOUR, {"trials": 40, "seconds": 0.004}, "serial", 1, "40 trials of about 4 ms starting 4 worker processes"),
        (FOUR, {"trials": None, "seconds": 10.0}, "processes", 4, "4 cores allow 4 trials at a time"),
        (FOUR, {"trials": 40, "seconds": None}, "processes", 4, "4 cores allow 4 trials at a time"),
        (FOUR, {"trials": 40, "seconds": 10.0, "workers": 1}, "serial", 1, "one trial at a time was asked for"),
        (FOUR, {"trials": 40, "seconds": 0.004, "workers": 9}, "processes", 9, "9 at a time were asked for"),
        (FOUR, {"trials": 40, "seconds": 0.004, "isolated": "it crashes"}, "processes", 4, "it crashes"),
        (FOUR, {"trials": 40, "seconds": None, "script": True}, "processes", 1, "one at a time"),
        (FOUR, {"trials": 40, "seconds": None, "script": True, "workers": 3}, "processes", 3, "as many as asked for"),
        (Machine(1), {"trials": 40, "seconds": 10.0}, "serial", 1, "1 core allows one trial at a time"),
        (Machine(2, "GPU"), {"trials": 40, "seconds": 10.0}, "processes", 2, "2 GPUs allow 2 trials"),
        (Machine(1, "GPU"), {"trials": 40, "seconds": 10.0}, "serial", 1, "1 GPU allows one trial at a time"),
        (
            Machine(64, "core", 4_000_000_000, 900_000_000),
            {"trials": 40, "seconds": 10.0},
            "processes",
            4,
            "4.0 GB of free memory, of which a worker process takes 900.0 MB, allow 4 trials",
        ),
        (
            Machine(64, "core", 100_000_000, 900_000_000),
            {"trials": 40, "seconds": 10.0},
            "serial",
            1,
            "allows one trial at a time",
        ),
    ],
)
def test_an_executor_follows_cores_gpus_memory_and_the_cost_of_a_trial(
    machine: Machine, given: dict[str, Any], value: str, workers: int, why: str
) -> None:
    choice = choose_executor(machine, **given)
    assert (choice.value, choice.workers, why in choice.reason) == (value, workers, True), choice


@pytest.mark.parametrize(
    ("workload", "stopper", "scheduler", "said"),
    [
        (epochs(), None, None, "no stopper is set; `stopper: auto` would take asha: trials report 20 epochs"),
        (epochs(), "asha", None, ""),
        (epochs(), "median", None, ""),
        (epochs(), "hyperband", None, ""),
        (epochs(), "wilcoxon", None, "the stopper is wilcoxon; `stopper: auto` would take asha"),
        (epochs(reports="folds", steps=10), "asha", None, "`stopper: auto` would take wilcoxon"),
        (epochs(reports="folds", steps=10), "wilcoxon", None, ""),
        (Workload("nothing", trials=30), None, None, ""),
        (Workload("nothing", trials=30), "asha", None, "the stopper asha gains little here: a trial reports nothing"),
        (Workload("nothing", trials=30), None, "bohb", "the scheduler bohb gains little here: a trial reports nothing"),
        (epochs(steps=2), None, "freeze_thaw", "the scheduler freeze_thaw gains little here: 2 epochs are too few"),
        (epochs(trials=20, **SHORT), None, "freeze_thaw", "`scheduler: auto` would take bohb"),
        (epochs(trials=20, **LONG), None, "freeze_thaw", ""),
        (epochs(trials=20, **LONG), None, "bohb", ""),
        (epochs(trials=20, **LONG), None, "successive_halving", ""),
        (epochs(steps=2), None, "pbt", ""),
    ],
)
def test_a_choice_of_the_file_is_remarked_on_where_the_rules_advise_against_it(
    workload: Workload, stopper: str | None, scheduler: str | None, said: str
) -> None:
    text = ending_advice(workload, stopper, scheduler)
    assert text.count("\n") == 0
    assert said in text if said else text == ""


@pytest.mark.parametrize(
    ("executor", "choice", "said"),
    [
        ("serial", Choice("processes", "4 cores", 4), "the executor is serial; `executor: auto` would take processes"),
        ("processes", Choice("serial", "for 4 trials", 1), "`executor: auto` would take serial: for 4 trials"),
        ("serial", Choice("processes", "a script", 1), ""),
        ("serial", Choice("serial", "1 core", 1), ""),
        ("ray", Choice("processes", "4 cores", 4), ""),
    ],
)
def test_so_is_an_executor(executor: str, choice: Choice, said: str) -> None:
    text = executor_advice(executor, choice)
    assert said in text if said else text == ""


def test_every_name_that_can_be_taken_is_a_strategy() -> None:
    kinds = [epochs(), epochs(sampler="random"), epochs(reports="folds"), epochs(steps=None), epochs(reports="sizes")]
    stoppers = {choose_stopper(each).value for each in kinds}
    schedulers = {choose_scheduler(each).value for each in [*kinds, epochs(trials=20, **LONG), epochs(**SHORT)]}
    assert stoppers <= {*FAMILIES["stoppers"].names(), None}
    assert schedulers <= {*FAMILIES["schedulers"].names(), None}
    assert stoppers == {"asha", "hyperband", "wilcoxon", "median"}
