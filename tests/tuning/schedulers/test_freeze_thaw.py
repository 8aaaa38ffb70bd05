"""What freeze_thaw gives to several workers that are free at once."""

from __future__ import annotations

import dataclasses

from modelopt_cli.tuning.schedulers import Resume, SchedulerContext, Start
from modelopt_cli.tuning.schedulers.freeze_thaw import FreezeThaw
from modelopt_cli.tuning.search.simulator import simulate
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State

TOTAL, PLANNED = 9, 12


def test_the_steps_that_are_left_are_given_out_once() -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", seed=0)
    scheduler = FreezeThaw()
    simulate(
        study,
        lambda params: [(1.0, {"loss": params["x"] + 1 / step}) for step in range(1, TOTAL + 1)],
        trials=PLANNED,
        workers=1,
        scheduler=scheduler,
        steps=40,
    )
    paused = [trial for trial in study.trials if trial.state is State.PAUSED]
    assert len(paused) >= 4
    context = SchedulerContext(
        space=study.space,
        trials=study.trials,
        waiting=(),
        slots=4,
        left=PLANNED,
        planned=PLANNED,
        ending=False,
        seed=study.seed,
        open_ended=True,
    )
    left = 2
    context = dataclasses.replace(context, committed=int(context.steps_left) - left)
    assert context.steps_left == left
    decisions = scheduler.next(context)
    ends = [
        (decision.until or TOTAL) - (study.trials[decision.number].step if isinstance(decision, Resume) else 0)
        for decision in decisions
        if isinstance(decision, Resume | Start)
    ]
    assert ends
    assert sum(ends[:-1]) < left, "the last one may go beyond, and no other"
