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
