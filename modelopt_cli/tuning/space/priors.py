"""Reading a prior belief as it stands beside a range: `prior: VALUE`, and how firmly, `confidence: 0.8`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelopt_cli.tuning.space.parameters import Belief, Choice, Parameter

CONFIDENCE = 0.8


def parse_belief(parameter: Parameter, spec: Mapping[Any, Any]) -> Belief | None:
    """None when the spec names no prior. Raises ValueError with the rule."""
    confidence = spec.get("confidence", CONFIDENCE)
    if "prior" not in spec:
        if "confidence" in spec:
            raise ValueError("confidence stands without a prior; name the value that is believed to be good")
        return None
    number = isinstance(confidence, int | float) and not isinstance(confidence, bool) and math.isfinite(confidence)
    if not number or not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}, but must lie between 0 and 1, both left out; write e.g. 0.8")
    try:
        return Belief(_own(parameter, spec["prior"]), float(confidence))
    except ValueError as error:
        raise ValueError(f"prior: {error}; name a value of the space") from None


def _own(parameter: Parameter, value: Any) -> Any:
    """The parameter's own value; a text also stands for the one section of that type."""
    if isinstance(parameter, Choice) and isinstance(value, str):
        named = [own for own in parameter.values if isinstance(own, Mapping) and own.get("type") == value]
        if len(named) == 1:
            return named[0]
        if named:
            raise ValueError(f"'{value}' is the type of {len(named)} sections; write the fixed part of one")
    return parameter.coerce(value)
