"""Strategies are found by their files' names, validated, and written so that they are read again."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import ValidationError

from modelopt_cli.core.strategy import FAMILIES, Family, Named, Settings, Strategy

every = [(family, name) for family in FAMILIES.values() for name in family.names()]
IDS = [f"{family.name}-{name}" for family, name in every]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_every_public_file_of_a_family_is_a_strategy(family: Family) -> None:
    module = importlib.import_module(family.package)
    stems = {path.stem for path in Path(module.__path__[0]).glob("*.py") if not path.stem.startswith("_")}
    assert {stem.rstrip("_") for stem in stems} <= set(family.names())


@pytest.mark.parametrize(("family", "name"), every, ids=IDS)
def test_a_strategy_is_called_as_its_file(family: Family, name: str) -> None:
    strategy = family.get(name)
    assert issubclass(strategy, Strategy)
    assert strategy.name() == name
    assert strategy.__module__.rpartition(".")[2].rstrip("_") == name
    assert strategy.summary().endswith("."), "the first line of its docstring is what `modelopt list` shows"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_an_unknown_name_is_refused_with_the_nearest(family: Family) -> None:
    name = family.names()[0]
    with pytest.raises(KeyError, match=f"unknown {family.noun} '{name}x'. Did you mean '{name}'"):
        family.get(f"{name}x")


class Section(Settings):
    sampler: Annotated[Strategy, Named("samplers")]


@pytest.mark.parametrize("value", ["random", {"type": "random"}, FAMILIES["samplers"].get("random")()])
def test_a_name_a_mapping_and_an_instance_are_one(value: object) -> None:
    section = Section.model_validate({"sampler": value})
    assert section.sampler.name() == "random"
    assert section.model_dump(mode="json")["sampler"]["type"] == "random"
    assert Section.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "1 is no sampler; write a name or a mapping with 'type'"),
        ({}, "a sampler needs 'type'"),
        ("rondom", "Did you mean 'random'"),
        ({"type": "random", "nothing": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_strategy_is_refused_at_its_place(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match="sampler") as caught:
        Section.model_validate({"sampler": value})
    assert message in str(caught.value)
    assert caught.value.errors()[0]["loc"][0] == "sampler"


def test_the_schema_has_a_branch_for_each_name() -> None:
    branches = str(Section.model_json_schema())
    for name in FAMILIES["samplers"].names():
        assert f"{{'const': '{name}'" in branches


def test_settings_convert_nothing_in_silence() -> None:
    class Numbers(Settings):
        whole: int
        real: float = 0.0

    assert Numbers.model_validate({"whole": 1, "real": 2}).real == 2.0
    for wrong in ({"whole": True}, {"whole": "1"}, {"whole": 1.0}, {"whole": 1, "real": float("nan")}, {"whol": 1}):
        with pytest.raises(ValidationError):
            Numbers.model_validate(wrong)
    with pytest.raises(ValidationError, match="frozen"):
        Numbers(whole=1).whole = 2  # type: ignore[misc]
