"""The `training:` section: what it accepts, and that checking it costs no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from modelopt_cli.training.settings import TrainingSettings


def test_round_trip_of_defaults_and_of_everything() -> None:
    given = {
        "epochs": 3,
        "optimizer": {"type": "muon", "adamw_betas": [0.8, 0.99]},
        "schedule": {"type": "warmup", "epochs": 2, "then": {"type": "warmup", "then": "cosine"}},
        "class_weights": [1, 2.5],
        "patience": 2,
        "monitor": "validation.accuracy",
    }
    for section in ({}, given):
        settings = TrainingSettings.model_validate(section)
        assert TrainingSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"batch_size": 1.5}, "valid integer"),
        ({"optimizer": "rmspropp"}, "Did you mean 'rmsprop'"),
        ({"optimizer": {"type": "sgd", "momentom": 0.9}}, "momentom"),
        ({"optimizer": {"type": "sgd", "nesterov": True}}, "set momentum: 0.9"),
        ({"optimizer": {"type": "adam", "betas": [0.9, 1.0]}}, "less than 1"),
        ({"schedule": {"type": "multi_step", "milestones": [5, 3]}}, "does not rise"),
        ({"schedule": {"type": "warmup", "then": "cosin"}}, "Did you mean 'cosine'"),
        ({"clip_norm": 0.0}, "greater than 0"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"class_weights": "balancd"}, "balanced"),
        ({"monitor": "test.accuracy"}, "train and validation|train or validation"),
        ({"monitor": "accuracy"}, "validation.accuracy"),
        ({"monitor": "minimise validation.cost"}, "minimize"),
        ({"learning_rate": 0.1}, "learning_rate"),
    ],
)
def test_refuses(section: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingSettings.model_validate(section)


def test_keeps_best_follows_patience_unless_told() -> None:
    make = TrainingSettings.model_validate
    assert not make({}).keeps_best
    assert make({}).monitored is None
    assert make({"patience": 3}).keeps_best
    assert make({"patience": 3}).monitored == "validation.loss"
    assert not make({"patience": 3, "keep": "last"}).keeps_best
    assert make({"keep": "best", "monitor": "validation.f1"}).monitored == "validation.f1"


def test_validation_and_schema_import_nothing_heavy() -> None:
    code = """if True:
        import sys
        from modelopt_cli.core.strategy import FAMILIES
        from modelopt_cli.training.settings import TrainingSettings
        for family in ("optimizers", "schedules"):
            for name in FAMILIES[family].names():
                if name != "multi_step":
                    TrainingSettings.model_validate({family[:-1]: name})
        TrainingSettings.model_json_schema()
        print([name for name in ("torch", "numpy", "sklearn", "scipy", "pandas") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
