"""Schedules against torch.optim.lr_scheduler, step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as reference

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.training.schedules import LearningRateSchedule
from modelopt_cli.training.schedules.constant import Constant
from modelopt_cli.training.schedules.cosine import Cosine
from modelopt_cli.training.schedules.exponential import Exponential
from modelopt_cli.training.schedules.linear import Linear
from modelopt_cli.training.schedules.multi_step import MultiStep
from modelopt_cli.training.schedules.one_cycle import OneCycle
from modelopt_cli.training.schedules.polynomial import Polynomial
from modelopt_cli.training.schedules.step import Step
from modelopt_cli.training.schedules.warmup import Warmup

STEPS, PER_EPOCH, LR = 40, 4, 0.3
Scheduler = Callable[[torch.optim.Optimizer], reference.LRScheduler]


def torch_rates(make: Scheduler, steps: int, per_epoch: int | None = None) -> list[float]:
    """The rate of each step; `per_epoch`: the scheduler is stepped after that many."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(1, steps + 1):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per_epoch is None or step % per_epoch == 0:
                scheduler.step()
    return rates


def rates(schedule: LearningRateSchedule, steps: int = STEPS, per_epoch: int = PER_EPOCH) -> list[float]:
    return [LR * schedule.factor(step, steps, per_epoch) for step in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Cosine(), lambda o: reference.CosineAnnealingLR(o, STEPS)),
        (Cosine(end=0.1), lambda o: reference.CosineAnnealingLR(o, STEPS, eta_min=0.1 * LR)),
        (Linear(start=0.5, end=0.1), lambda o: reference.LinearLR(o, 0.5, 0.1, STEPS)),
        (Polynomial(power=2.0), lambda o: reference.PolynomialLR(o, STEPS, 2.0)),
        *(
            (
                OneCycle(pct_start=share, anneal_strategy=form, three_phase=three),
                lambda o, share=share, form=form, three=three: reference.OneCycleLR(
                    o, LR, STEPS, pct_start=share, anneal_strategy=form, three_phase=three, cycle_momentum=False
                ),
            )
            for share in (0.1, 0.3, 0.45)
            for form in ("cos", "linear")
            for three in (False, True)
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, LearningRateSchedule) else "",
)
def test_by_step_equals_torch(schedule: LearningRateSchedule, make: Scheduler) -> None:
    assert rates(schedule) == pytest.approx(torch_rates(make, STEPS), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Constant(), lambda o: reference.ConstantLR(o, 1.0)),
        (Step(step_size=3, gamma=0.5), lambda o: reference.StepLR(o, 3, 0.5)),
        (MultiStep(milestones=(2, 5, 6), gamma=0.1), lambda o: reference.MultiStepLR(o, [2, 5, 6], 0.1)),
        (Exponential(gamma=0.9), lambda o: reference.ExponentialLR(o, 0.9)),
    ],
    ids=lambda value: repr(value) if isinstance(value, LearningRateSchedule) else "",
)
def test_by_epoch_equals_torch(schedule: LearningRateSchedule, make: Scheduler) -> None:
    assert rates(schedule) == pytest.approx(torch_rates(make, STEPS, PER_EPOCH), rel=1e-9)


def test_warmup_then_cosine_equals_torchs_sequence() -> None:
    rise = 2 * PER_EPOCH

    def make(optimizer: torch.optim.Optimizer) -> reference.LRScheduler:
        first = reference.LinearLR(optimizer, 0.1, 1.0, rise)
        return reference.SequentialLR(optimizer, [first, reference.CosineAnnealingLR(optimizer, STEPS - rise)], [rise])

    ours = rates(Warmup(epochs=2.0, start=0.1, then=Cosine()))
    assert ours == pytest.approx(torch_rates(make, STEPS), rel=1e-9, abs=1e-12)


def test_warmup_from_zero_rises_in_equal_steps_and_wastes_none() -> None:
    factors = [Warmup(epochs=1.0).factor(step, STEPS, PER_EPOCH) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


SCHEDULES = [
    FAMILIES["schedules"].get(name).model_validate({"milestones": [2]} if name == "multi_step" else {})
    for name in FAMILIES["schedules"].names()
]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name())
@given(data=st.data())
def test_factors_are_finite_and_in_range_however_short_the_training(
    schedule: LearningRateSchedule, data: st.DataObject
) -> None:
    per_epoch = data.draw(st.integers(1, 50))
    steps = per_epoch * data.draw(st.integers(1, 20))
    step = data.draw(st.integers(0, steps - 1))
    assert 0.0 <= schedule.factor(step, steps, per_epoch) <= 1.0 + 1e-12
