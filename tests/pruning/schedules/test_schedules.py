"""Pruning schedules: amounts by the formulas, what every schedule promises, and SynFlow's steps of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.pruning.common.distances import divergence
from modelopt_cli.pruning.importances.synflow import Synflow
from modelopt_cli.pruning.schedules import PruningSchedule, Stage
from modelopt_cli.pruning.settings import PruningSettings
from modelopt_cli.pruning.weights.masking import Masking
from modelopt_cli.pruning.weights.pruner import WeightPruner
from modelopt_cli.training.batches import Batch
from modelopt_cli.workflows.pruning.phases import PruningHook

FAMILY = FAMILIES["pruning_schedules"]


def schedule(name: str, **options: Any) -> PruningSchedule:
    return FAMILY.get(name).model_validate(options)  # type: ignore[return-value]


def amounts(stages: Sequence[Stage]) -> list[float]:
    return [amount for stage in stages for _, amount in stage.marks]


@pytest.mark.parametrize("name", FAMILY.names())
@pytest.mark.parametrize("amount", [0.0, 0.3, 0.9, 0.99, 1.0])
def test_every_schedule_ascends_to_exactly_the_amount_and_every_stage_begins_at_its_start(
    name: str, amount: float
) -> None:
    stages = schedule(name).stages(amount)
    shares = amounts(stages)
    assert shares[-1] == amount
    assert shares == sorted(shares)
    assert shares[0] >= 0.0
    for stage in stages:
        times = [when for when, _ in stage.marks]
        assert times[0] == 0.0
        assert times == sorted(times)
        assert times[-1] <= 1.0


@pytest.mark.parametrize("name", FAMILY.names())
def test_with_a_threshold_every_mark_is_the_same(name: str) -> None:
    later = [mark for stage in schedule(name).stages(None) for mark in stage.marks if mark[1]]
    assert {amount for _, amount in later} == {1.0}


def test_one_shot_is_one_stage() -> None:
    assert schedule("one_shot").stages(0.7) == [Stage(((0.0, 0.7),))]


@pytest.mark.parametrize("name", ["rounds", "lottery"])
def test_rounds_take_the_same_share_of_what_is_left_or_the_same_number(name: str) -> None:
    left = [1.0, *(1.0 - share for share in amounts(schedule(name, rounds=4).stages(0.9)))]
    ratios = [after / before for before, after in pairwise(left)]
    assert ratios == pytest.approx([0.1**0.25] * 4)
    linear = amounts(schedule(name, rounds=4, shape="linear").stages(0.8))
    assert linear == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert amounts(schedule(name, rounds=1).stages(0.8)) == [0.8]


def test_rounds_take_amounts_that_are_written_out() -> None:
    assert amounts(schedule("rounds", amounts=[0.5, 0.8]).stages(0.9)) == [0.5, 0.8, 0.9]
    assert amounts(schedule("rounds", amounts=[0.5, 0.8, 0.9, 0.95]).stages(0.8)) == [0.5, 0.8]
    with pytest.raises(ValidationError, match="must ascend"):
        schedule("rounds", amounts=[0.8, 0.5])
    with pytest.raises(ValidationError, match="must ascend"):
        schedule("rounds", amounts=[0.5, 0.5])


def test_lottery_rewinds_every_round() -> None:
    assert [stage.rewind for stage in schedule("lottery", rounds=3, rewind=2).stages(0.9)] == [2, 2, 2]
    assert [stage.rewind for stage in schedule("rounds", rounds=3).stages(0.9)] == [None] * 3


def test_cubic_is_zhu_and_guptas_equation_1_at_its_marks() -> None:
    """s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3 after the k-th of n prunings, t - t_0 = k dt."""
    rounds, final, initial = 10, 0.9, 0.2
    [stage] = schedule("cubic", rounds=rounds, start=0.1, end=0.6, initial=initial).stages(final)
    assert stage.marks[0] == (0.0, initial)
    for k, (when, share) in enumerate(stage.marks[1:], start=1):
        assert share == pytest.approx(final + (initial - final) * (1 - k / rounds) ** 3)
        assert when == pytest.approx(0.1 + 0.5 * (k - 1) / (rounds - 1))
    steps = [after - before for (_, before), (_, after) in pairwise(stage.marks)]
    assert steps == sorted(steps, reverse=True), "fast at first, then ever slower"


def test_cubic_says_what_makes_no_sense() -> None:
    with pytest.raises(ValidationError, match="must not be after end"):
        schedule("cubic", start=0.8, end=0.5)
    [stage] = schedule("cubic", initial=0.8).stages(0.5)
    assert {share for _, share in stage.marks} == {0.5}, "an initial share above the amount is the amount"


def test_marks_prune_at_their_steps_and_never_after_the_last_one() -> None:
    done: list[tuple[int, float]] = []
    now = 0
    marks = PruningHook(
        [(0.0, 0.1), (0.24, 0.3), (0.26, 0.4), (0.5, 0.5), (1.0, 0.9)], lambda share: done.append((now, share))
    )
    for step in range(4):
        now = step
        marks.before_step(step, 4)
    assert done == [(0, 0.1), (1, 0.4), (2, 0.5), (3, 0.9)], "of marks at the same step the last one counts"
    assert marks.done


@pytest.mark.parametrize("resumed", range(11))
def test_marks_go_on_at_the_step_they_were_left_at(resumed: int) -> None:
    given = [(number / 7, number / 10) for number in range(8)]
    whole: list[float] = []
    marks = PruningHook(given, whole.append)
    for step in range(resumed):
        marks.before_step(step, 10)
    rest = PruningHook(given, whole.append)
    rest.skip(resumed, 10)
    for step in range(resumed, 10):
        rest.before_step(step, 10)
    uninterrupted: list[float] = []
    alone = PruningHook(given, uninterrupted.append)
    for step in range(10):
        alone.before_step(step, 10)
    assert whole == uninterrupted


def bias_free(depth: int) -> nn.Module:
    torch.manual_seed(0)
    widths = [6, *[20] * (depth - 1), 4]
    layers: list[nn.Module] = []
    for given, made in pairwise(widths):
        layers += [nn.Linear(given, made, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def pruner(module: nn.Module, importance: dict[str, Any]) -> WeightPruner:
    """By a criterion without data: the batch is an example of the inputs."""
    masking = Masking(dict(module.named_parameters()))
    settings = PruningSettings.model_validate({"amount": 0.5, "importance": importance})
    given = [Batch(torch.zeros(1, 6), torch.zeros(1, dtype=torch.int64), None, torch.arange(1))]
    loss = lambda outputs, targets, weights: F.cross_entropy(outputs, targets)  # noqa: E731
    return WeightPruner(
        module,
        settings,
        masking,
        batches=lambda: given,
        loss=loss,
        validation_loss=lambda: 0.0,
        distance=divergence,
    )


def test_synflow_is_conserved_from_layer_to_layer() -> None:
    """Tanaka et al. 2020, theorem 2: between input and output every layer's scores have the same sum."""
    weight_pruner = pruner(bias_free(5), {"type": "synflow"})
    scores = Synflow().contributions(weight_pruner.masking.weights, weight_pruner.collected(Synflow.needs))
    sums = [float(scores[name].double().sum()) for name in weight_pruner.masking.weights]
    assert sums == pytest.approx([sums[0]] * 5, rel=1e-4)


def left_by_synflow(iterations: int) -> list[int]:
    weight_pruner = pruner(bias_free(6), {"type": "synflow", "iterations": iterations})
    weight_pruner.prune(0.985)
    zeroed, total = weight_pruner.masking.counts
    assert zeroed == round(0.985 * total)
    return [int(mask.sum()) for mask in weight_pruner.masking.masks.values()]


@pytest.mark.slow
def test_synflow_in_iterations_empties_no_layer_where_one_pass_does() -> None:
    assert min(left_by_synflow(1)) == 0
    assert min(left_by_synflow(100)) > 0
