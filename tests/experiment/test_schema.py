"""The JSON Schema: it names everything that a file may hold, and holds for every valid file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.experiment.document.marks import Source
from modelopt_cli.experiment.document.yaml_loader import parse
from modelopt_cli.experiment.experiment import Experiment
from modelopt_cli.experiment.schema import json_schema

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.yaml"))
SCHEMA = json_schema()
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
ANNOTATIONS = {"title", "description", "default", "$defs", "$schema", "format", "discriminator"}


def fits(value: Any, schema: Any) -> bool:
    """JSON Schema validation, for the keywords that the schema uses; an unknown keyword is an error."""
    if isinstance(schema, bool):
        return schema
    return all(holds(keyword, rule, value, schema) for keyword, rule in schema.items() if keyword not in ANNOTATIONS)


def holds(keyword: str, rule: Any, value: Any, schema: dict[str, Any]) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match keyword:
        case "$ref":
            return fits(value, resolve(rule))
        case "type":
            boolean = isinstance(value, bool) and rule != "boolean"
            return not boolean and isinstance(value, TYPES[rule])
        case "const":
            return bool(value == rule)
        case "enum":
            return value in rule
        case "anyOf" | "oneOf":
            return any(fits(value, option) for option in rule)
        case "not":
            return not fits(value, rule)
        case "properties":
            return not isinstance(value, dict) or all(fits(value[key], rule[key]) for key in rule if key in value)
        case "additionalProperties":
            known = schema.get("properties", {})
            return not isinstance(value, dict) or all(fits(value[key], rule) for key in value if key not in known)
        case "propertyNames":
            return not isinstance(value, dict) or all(fits(key, rule) for key in value)
        case "required":
            return not isinstance(value, dict) or all(key in value for key in rule)
        case "prefixItems":
            return not isinstance(value, list) or all(map(fits, value, rule))
        case "items":
            start = len(schema.get("prefixItems", []))
            return not isinstance(value, list) or all(fits(item, rule) for item in value[start:])
        case "minItems":
            return not isinstance(value, list) or len(value) >= rule
        case "maxItems":
            return not isinstance(value, list) or len(value) <= rule
        case "minLength":
            return not isinstance(value, str) or len(value) >= rule
        case "maxLength":
            return not isinstance(value, str) or len(value) <= rule
        case "minProperties":
            return not isinstance(value, dict) or len(value) >= rule
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "minimum":
            return not number or value >= rule
        case "maximum":
            return not number or value <= rule
        case "exclusiveMinimum":
            return not number or value > rule
        case "exclusiveMaximum":
            return not number or value < rule
    raise AssertionError(f"keyword {keyword}")


def resolve(reference: str) -> Any:
    schema: Any = SCHEMA
    for key in reference.removeprefix("#/").split("/"):
        schema = schema[key]
    return schema


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key not in ("default", "const", "enum"):
                yield from parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from parts(value)


def branches(schema: Any) -> dict[str, dict[str, Any]]:
    """Type name -> schema of the strategies that a field takes."""
    options = [resolve(option["$ref"]) if "$ref" in option else option for option in schema.get("anyOf", [])]
    strategies: dict[str, dict[str, Any]] = {}
    for option in options:
        if "type" in option.get("properties", {}):
            strategies[option["properties"]["type"]["const"]] = option
        strategies |= branches(option)
    return strategies


def test_all_references_resolve_and_definitions_stand_at_the_top() -> None:
    for part in parts(SCHEMA):
        if isinstance(part.get("$ref"), str):
            assert isinstance(resolve(part["$ref"]), dict)
        assert "$defs" not in part or part is SCHEMA


FIELDS = {
    "data": SCHEMA["properties"]["data"],
    "models": SCHEMA["properties"]["model"],
    "optimizers": SCHEMA["$defs"]["TrainingSettings"]["properties"]["optimizer"],
    "schedules": SCHEMA["$defs"]["TrainingSettings"]["properties"]["schedule"],
    "samplers": SCHEMA["$defs"]["TuningSettings"]["properties"]["sampler"],
    "stoppers": SCHEMA["$defs"]["TuningSettings"]["properties"]["stopper"],
    "schedulers": SCHEMA["$defs"]["TuningSettings"]["properties"]["scheduler"],
    "executors": SCHEMA["$defs"]["TuningSettings"]["properties"]["executor"],
    "importances": SCHEMA["$defs"]["PruningSection"]["properties"]["importance"],
    "structures": SCHEMA["$defs"]["PruningSection"]["properties"]["structure"],
    "allocations": SCHEMA["$defs"]["PruningSection"]["properties"]["allocation"],
    "pruning_schedules": SCHEMA["$defs"]["PruningSection"]["properties"]["schedule"],
    "compensations": SCHEMA["$defs"]["PruningSection"]["properties"]["compensation"],
    "distillation_losses": SCHEMA["$defs"]["DistillationSettings"]["properties"]["losses"]["items"],
    "loggers": SCHEMA["properties"]["loggers"]["items"],
    "quantizations": SCHEMA["$defs"]["QuantizationSection"]["properties"]["method"],
}


def test_no_family_is_forgotten() -> None:
    assert set(FIELDS) | {"augmentations"} == set(FAMILIES)


@pytest.mark.parametrize("name", FIELDS)
def test_every_strategy_and_option_is_described(name: str) -> None:
    family, described = FAMILIES[name], branches(FIELDS[name])
    assert sorted(described) == sorted(family.names())
    for strategy, schema in described.items():
        fields = family.get(strategy).model_fields
        assert list(schema["properties"]) == ["type", *fields]
        assert "type" in schema["required"]
        assert schema["description"] == family.get(strategy).summary()
        for key in fields:
            assert schema["properties"][key].get("description"), f"{strategy}.{key} has no description"


def test_every_section_option_is_described() -> None:
    for key in Experiment.model_fields:
        assert SCHEMA["properties"][key].get("description"), key
    sections = ("TrainingSettings", "TuningSettings", "EvaluationSettings", "CommandSettings", "Splits")
    compressing = ("PruningSection", "RecoverySection", "RecoveryGuidance", "Budget", "QuantizationSection")
    of_distillation = ("DistillationSettings", "TeacherSettings", "LearnerSettings", "Cache", "Ema", "Mutual")
    for name in (*sections, *of_distillation, *compressing, "QuantizationRecoverySection"):
        for key, schema in SCHEMA["$defs"][name]["properties"].items():
            assert schema.get("description"), f"{name}.{key}"


def written(path: Path) -> Any:
    return parse(Source(str(path), re.sub(r"\$\{", "$${", path.read_text()))).values


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_files_fit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fits(written(path), SCHEMA)
    monkeypatch.setenv("MNIST", "/data")
    monkeypatch.setenv("CIFAR100", "/data")
    assert fits(Experiment.load(path).resolved(), SCHEMA)


VALID: list[dict[str, Any]] = [
    {},
    {"training": {"epochs": "${EPOCHS:-5}", "schedule": {"type": "warmup", "then": "cosine"}}},
    {"command": {"argv": ["a", "{b}"], "parameters": {"b": [1, "x"]}}},
    {"model": {"type": "sklearn", "estimator": "a.b", "anything": [1]}, "evaluation": {"cv": 5}},
    {"data": {"type": "digits", "augment": ["flip"], "splits": {"validation": [1, 2], "test": 0}}},
    {"tuning": {"objective": ["maximize a", "minimize b"], "executor": {"type": "serial"}, "trial_memory": "2GB"}},
    {"tuning": {"objective": "maximize a", "space": {"a.b": [1, "x", None], "c": {"choice": [{"type": "d"}, 5]}}}},
    {"tuning": {"objective": "maximize a", "space": {"a": {"int": [1, 5], "step": 2}, "b": {"ordinal": ["x", "y"]}}}},
    {"seeds": 3, "distillation": {"teacher": "model.pt", "cache": {"where": "disk", "views": 4}}},
    {"distillation": {"teachers": ["a.pt", {"path": "b.pt", "weight": 2.0}, {"model": "mlp", "training": {}}]}},
    {"distillation": {"ema": {"decay": 0.9}, "losses": ["labels", {"type": "fitnets", "taps": ["layer3.*"]}]}},
    {"pruning": {"amount": 0.5, "recovery": {"distillation": {"teacher": "a.pt", "losses": ["soft_targets"]}}}},
]
WRONG: list[dict[str, Any]] = [
    {"trainig": {}},
    {"version": 2},
    {"training": {"epochs": 0}},
    {"training": {"epochs": "5"}},
    {"training": {"epochs": True}},
    {"training": {"optimizer": "sdg"}},
    {"training": {"optimizer": {"type": "sgd", "betas": [0.9, 0.9]}}},
    {"training": {"optimizer": {"lr": 0.1}}},
    {"data": {"type": "digits", "splits": {"validation": 1.5}}},
    {"model": {"type": "mlp", "hiden": [1]}},
    {"tuning": {"space": {}}},
    {"tuning": {"objective": "maximize a", "space": {"a": {"float": [1.0]}}}},
    {"tuning": {"objective": "maximize a", "space": {"a": {"flot": [1.0, 2.0]}}}},
    {"tuning": {"objective": "maximize a", "space": {"a": []}}},
    {"command": {}},
    {"seeds": 0},
    {"distillation": {"teacher": 3}},
    {"distillation": {"teacher": "a.pt", "losses": [{"type": "soft_target"}]}},
    {"distillation": {"teacher": "a.pt", "losses": [{"type": "fitnets"}]}},
    {"distillation": {"mutual": {"count": 1}}},
    {"distillation": {"teacher": {"path": "a.pt", "wieght": 1.0}}},
    {"pruning": {"amount": 0.5, "recovery": {"distillation": {"mutual": {}}}}},
]


@pytest.mark.parametrize("values", VALID, ids=range(len(VALID)))
def test_valid_files_fit(values: dict[str, Any]) -> None:
    assert fits(values, SCHEMA)


@pytest.mark.parametrize("values", WRONG, ids=range(len(WRONG)))
def test_wrong_files_do_not_fit(values: dict[str, Any]) -> None:
    assert not fits(values, SCHEMA)
