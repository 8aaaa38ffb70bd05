"""What a `type:` can name, as plain data for programs: summaries, options, and the extras that they need."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modelopt_cli.core.strategy import FAMILIES, Named, Strategy
from modelopt_cli.experiment.document.layout import plain

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "mapping", Any: "anything"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class OptionInfo(TypedDict):
    """One option. `type`: what may stand there, in words; `default`: null where it is required."""

    type: str
    required: bool
    default: Any
    description: str


class StrategyInfo(TypedDict):
    """One strategy. `extra`: of modelopt-cli, without which it cannot run; null: it needs none."""

    summary: str
    extra: str | None
    options: dict[str, OptionInfo]


def described(families: Collection[str] = ()) -> dict[str, dict[str, StrategyInfo]]:
    """Family -> name -> what it is, of these families (none: of all)."""
    return {
        family.name: {name: _strategy(family.get(name)) for name in family.names()}
        for family in FAMILIES.values()
        if not families or family.name in families
    }


def _strategy(strategy: type[Strategy]) -> StrategyInfo:
    options = {name: _option(field) for name, field in strategy.model_fields.items()}
    return {"summary": strategy.summary(), "extra": strategy.extra or None, "options": options}


def _option(field: FieldInfo) -> OptionInfo:
    required = field.is_required()
    return {
        "type": _words(field.annotation, field.metadata),
        "required": required,
        "default": None if required else plain(field.get_default(call_default_factory=True, validated_data={})),
        "description": " ".join((field.description or "").split()),
    }


def _words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a value may be: "number, at least 0, or null", "list of sampler (modelopt list samplers)"."""
    metadata = list(metadata)
    for each in metadata:
        if isinstance(each, Named):
            return f"{FAMILIES[each.family].noun} (modelopt list {each.family})"
    known = ((getattr(each, name, None), word) for each in metadata for name, word in _BOUNDS.items())
    bounds = "".join(f", {word} {bound:g}" for bound, word in known if bound is not None)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(inner[0], [*annotation.__metadata__, *metadata])
    if origin in (Union, types.UnionType):
        some = [each for each in inner if each is not type(None)]
        parts = [_words(each, metadata) for each in some]
        return " or ".join([*parts, *(["null"] if len(some) < len(inner) else [])])
    if origin is Literal:
        return "one of: " + ", ".join("null" if each is None else str(each) for each in inner)
    if origin in (tuple, list):
        kinds = list(dict.fromkeys(_words(each) for each in inner if each is not Ellipsis))
        many = f"{len(inner)}, each " if origin is tuple and Ellipsis not in inner else ""
        return f"list of {many}{' or '.join(kinds)}"
    if origin is dict:
        return f"mapping of {_words(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _WORDS.get(annotation, "anything") + bounds


def _annotated(annotation: Any, metadata: Iterable[Any]) -> str:
    """The same, where what is said of a value stands in a field's description of it."""
    parts = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    return _words(annotation, parts)
