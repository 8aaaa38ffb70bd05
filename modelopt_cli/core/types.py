"""Field types that several sections share."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field, Strict

Item = TypeVar("Item")

Items = Annotated[tuple[Item, ...], Strict(False)]
"""A YAML list, stored as a tuple; its items stay strictly typed."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


def whole_or_part(value: float) -> float:
    """The number itself, of devices that are given out: some whole ones, or a part of one. Raises ValueError."""
    if value > 1.0 and value != int(value):
        raise ValueError(f"a share of {value:g} is above 1 and not whole, which cannot be given out")
    return value
