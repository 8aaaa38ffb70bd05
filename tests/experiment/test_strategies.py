"""What `modelopt list --json` says of every strategy is what the JSON Schema of experiment files says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.experiment.schema import json_schema
from modelopt_cli.experiment.strategies import described

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Name of a strategy and its summary -> the schema of its section."""
    sections = json_schema()["$defs"].values()
    return {
        f"{each['properties']['type']['const']}: {each['description']}": each
        for each in sections
        if "const" in each.get("properties", {}).get("type", {})
    }


@pytest.mark.slow
def test_every_option_of_the_schema_is_there(schema: dict[str, Any]) -> None:
    seen = 0
    for members in described().values():
        for name, strategy in members.items():
            section = schema[f"{name}: {strategy['summary']}"]
            assert set(strategy["options"]) == set(section["properties"]) - {"type"}
            for option, about in strategy["options"].items():
                written = section["properties"][option]
                assert about["description"] == " ".join(written.get("description", "").split())
                assert about["required"] == (option in section["required"])
                if "default" in written:
                    assert about["default"] == written["default"] or isinstance(written["default"], dict)
                assert about["type"]
                assert about["description"], f"{name}.{option} says nothing of itself"
                seen += 1
    assert seen > 300


def test_types_are_words() -> None:
    families = described(["samplers", "augmentations", "data", "schedules", "optimizers"])
    words = {about["type"] for members in families.values() for each in members.values() for about in
             each["options"].values()}  # fmt: skip
    assert not [each for each in words if "<" in each or "typing" in each or "modelopt_cli." in each]
    assert families["optimizers"]["sgd"]["options"]["momentum"]["type"] == "number, at least 0"
    assert families["samplers"]["cmaes"]["options"]["population"]["type"] == "whole number, at least 4 or null"
    then = families["schedules"]["warmup"]["options"]["then"]
    assert then["type"] == "learning-rate schedule (modelopt list schedules)"
    augment = families["data"]["digits"]["options"]["augment"]["type"]
    assert augment == "list of augmentation (modelopt list augmentations)"


def test_extras_are_those_of_the_package() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {
        f"{family}/{name}": strategy["extra"]
        for family, members in described().items()
        for name, strategy in members.items()
        if strategy["extra"] is not None
    }
    assert set(named.values()) <= extras
    assert named == {
        "data/parquet": "parquet",
        "samplers/cmaes": "cmaes",
        "samplers/optuna": "optuna",
        "executors/ray": "ray",
        "loggers/mlflow": "mlflow",
        "loggers/tensorboard": "tensorboard",
        "loggers/trackio": "trackio",
        "loggers/wandb": "wandb",
        "quantizations/dynamic": "onnx",
        "quantizations/dynamic_torch": "torchao",
        "quantizations/static": "onnx",
        "quantizations/weight_only": "torchao",
    }


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_one_family_is_the_same_as_in_all(family: str) -> None:
    assert described([family]) == {family: described()[family]}
