"""The `pruning:` section: what goes together, what does not and how that is said, budgets, recovery over training."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modelopt_cli.pruning.settings import Budget, PruningSettings, Recovery
from modelopt_cli.training.settings import TrainingSettings


def section(**given: Any) -> PruningSettings:
    return PruningSettings.model_validate(given)


RECOVERY = {"epochs": 2}
ONE_BUDGET = "exactly one of nonzero, size_bytes, parameters, flops, latency_ms; found "
WRONG = [
    ({}, "exactly one of threshold, amount and budget; found none of them"),
    ({"threshold": 0.1, "amount": 0.5}, "found threshold and amount"),
    ({"amount": 0.5, "budget": {"nonzero": 10}}, "found amount and budget"),
    ({"structure": "nm", "amount": 0.5}, "structure nm says itself how much goes, so amount has no meaning"),
    ({"structure": "nm", "threshold": 0.5}, "so threshold has no meaning"),
    ({"structure": "nm", "allocation": "global"}, "leaves nothing to allocate"),
    (
        {"allocation": "threshold", "amount": 0.5},
        "allocation threshold compares scores with a threshold; set threshold",
    ),
    ({"allocation": "uniform", "threshold": 0.1}, "allocation uniform shares out an amount; set amount or budget"),
    ({"amount": 0.9, "schedule": "cubic"}, "schedule cubic prunes while the model recovers; add recovery"),
    ({"amount": 0.9, "schedule": "lottery", "recovery": RECOVERY}, "leave out recovery"),
    ({"amount": 0.9, "schedule": "lottery", "start": "initial"}, "leave out start: initial"),
    ({"amount": 1.0}, "less than 1"),
    ({"amount": -0.1}, "greater than or equal to 0"),
    ({"threshold": -0.1}, "greater than or equal to 0"),
    (
        {"amount": 0.5, "budget": {}},
        ONE_BUDGET + "none of them",
    ),
    (
        {"budget": {"nonzero": 5, "size_bytes": 5}},
        ONE_BUDGET + "nonzero and size_bytes",
    ),
    ({"budget": {"nonzero": "a tenth"}}, "'a tenth' is no budget"),
    ({"budget": {"nonzero": "101%"}}, "'101%' is no budget"),
    ({"budget": {"nonzero": "0%"}}, "'0%' is no budget"),
    ({"budget": {"size_bytes": 0}}, "leaves nothing"),
    ({"amount": 0.5, "importance": "magnitud"}, "magnitude"),
    ({"amount": 0.5, "structure": {"type": "nm", "n": 4, "m": 4}}, "n must be below m"),
    ({"amount": 0.5, "keep_at_least": 1.0}, "less than 1"),
    ({"amount": 0.5, "speed": 3}, "Extra inputs"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[str(given) for given, _ in WRONG])
def test_what_does_not_go_together_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        section(**given)
    assert message in str(raised.value)


RIGHT = [
    {"amount": 0.0},
    {"threshold": 0.0},
    {"structure": "nm"},
    {"structure": {"type": "nm", "n": 1, "m": 4}, "schedule": "lottery"},
    {"amount": 0.9, "schedule": "cubic", "recovery": RECOVERY},
    {"amount": 0.9, "schedule": "cubic", "start": "initial"},
    {"amount": 0.9, "schedule": "lottery"},
    {"amount": 0.9, "schedule": "rounds"},
    {"threshold": 0.1, "allocation": "threshold"},
    {"budget": {"nonzero": "10%"}, "allocation": "erk"},
]


@pytest.mark.parametrize("given", RIGHT, ids=str)
def test_what_goes_together_is_taken_and_survives_a_round_trip(given: dict[str, Any]) -> None:
    section_settings = section(**given)
    assert PruningSettings.model_validate(section_settings.model_dump(mode="json")) == section_settings


def test_the_allocation_by_default() -> None:
    def chosen(**given: Any) -> str | None:
        allocation = section(**given).chosen_allocation
        return None if allocation is None else allocation.name()

    assert chosen(amount=0.5) == "global"
    assert chosen(threshold=0.5) == "threshold"
    assert chosen(structure="nm") is None
    assert chosen(amount=0.5, allocation="lamp") == "lamp"


@pytest.mark.parametrize(
    ("budget", "dense", "left"),
    [
        ({"nonzero": 500}, 1000, 500.0),
        ({"nonzero": "5%"}, 1000, 50.0),
        ({"nonzero": " 12.5 % "}, 1000, 125.0),
        ({"size_bytes": "100%"}, 1000, 1000.0),
        ({"size_bytes": 70}, 1000, 70.0),
    ],
)
def test_a_budget_is_a_number_or_a_share(budget: dict[str, Any], dense: float, left: float) -> None:
    assert Budget.model_validate(budget).left(dense) == pytest.approx(left)


def test_recovery_takes_from_training_what_it_leaves_open() -> None:
    training = TrainingSettings.model_validate(
        {"epochs": 30, "batch_size": 64, "optimizer": {"type": "sgd", "lr": 0.5, "momentum": 0.9}, "patience": 7}
    )
    assert Recovery().over(training) == training
    recovered = Recovery.model_validate({"epochs": 3, "lr": 0.01, "schedule": "cosine", "clip_norm": 1.0}).over(
        training
    )
    assert (recovered.epochs, recovered.batch_size, recovered.patience, recovered.clip_norm) == (3, 64, 7, 1.0)
    assert recovered.schedule.name() == "cosine"
    assert recovered.optimizer.model_dump() == {**training.optimizer.model_dump(), "lr": 0.01}
    other = Recovery.model_validate({"optimizer": {"type": "adamw", "lr": 0.3}, "lr": 0.02}).over(training)
    assert other.optimizer.name() == "adamw"
    assert other.optimizer.lr == 0.02  # type: ignore[attr-defined]


def test_every_field_of_recovery_is_one_of_training() -> None:
    assert set(Recovery.model_fields) - {"lr"} <= set(TrainingSettings.model_fields)


def test_a_model_that_is_pruned_untrained_is_trained_after_it() -> None:
    training = TrainingSettings(epochs=9)
    assert section(amount=0.5).recovery_over(training) is None
    assert section(amount=0.5, start="initial").recovery_over(training) == training
    assert section(amount=0.5, recovery=RECOVERY).recovery_over(training).epochs == 2  # type: ignore[union-attr]
