"""The JSON Schema (draft 2020-12) of an experiment file, for editors: every section, strategy and option."""

from __future__ import annotations

from typing import Any

from modelopt_cli.experiment.experiment import Experiment

_VARIABLE = {"$ref": "#/$defs/Variable"}
_SCALARS = ("integer", "number", "boolean")
_ABOUT = ("title", "description", "default")


def json_schema() -> dict[str, Any]:
    """The schema as plain values. A strategy is a name or a mapping whose `type` decides on the other keys."""
    schema = Experiment.model_json_schema()
    schema["$defs"]["TuningSettings"]["properties"]["space"] |= {
        "additionalProperties": {"$ref": "#/$defs/SearchSpec"},
        "propertyNames": {"pattern": r"^[^.]+(\.[^.]+)*$"},
    }
    schema = _with_variables(schema)
    schema["$defs"] |= {
        "SearchSpec": _search_spec(),
        "Variable": {
            "type": "string",
            "pattern": r"\$\{[A-Za-z_]",
            "description": "An environment variable: ${NAME} or ${NAME:-default}.",
        },
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "modelopt experiment"}
    return {**head, **{key: value for key, value in schema.items() if key != "title"}}


def _search_spec() -> dict[str, Any]:
    """What may stand under a path of tuning.space (the forms: tuning/space/spec.py)."""
    number = {"type": "number"}
    whole = {"type": "integer"}
    values = {"type": "array", "minItems": 1}
    forms = [
        {**values, "items": {"not": {"type": "object"}}, "description": "A choice of values."},
        _form("float", _pair(number), "A number in [low, high].", log={"type": "boolean"}, step=number, count=whole),
        _form("int", _pair(whole), "A whole number in [low, high].", log={"type": "boolean"}, step=whole, count=whole),
        _form("choice", values, "A choice of values or of sections; a section may hold what is searched in it."),
        _form("ordinal", values, "A choice of ordered values."),
    ]
    return {"anyOf": forms, "description": "What to try: a range, or a choice."}


def _pair(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 2, "maxItems": 2}


def _form(kind: str, value: dict[str, Any], about: str, **options: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {kind: value, **options},
        "required": [kind],
        "additionalProperties": False,
        "description": about,
    }


def _with_variables(schema: Any) -> Any:
    """`schema` with an environment variable allowed wherever a number, or true or false, is."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in _SCALARS:
        about = {key: value for key, value in schema.items() if key in _ABOUT}
        rule = {key: value for key, value in schema.items() if key not in _ABOUT}
        return {**about, "anyOf": [rule, _VARIABLE]}
    return {key: value if key == "default" else _with_variables(value) for key, value in schema.items()}
