"""Search parameters: what each of them can do, and the two that list their values (choice, ordinal).

Each maps its values to the unit interval and back. One with finitely many values numbers them 0 .. size-1 and gives
each an equal share of [0, 1], its code being the middle of its share; for the exceptions see ranges.py.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from typing_extensions import override

Condition = tuple[str, int]
"""(path of the choice, index of the branch) under which a parameter counts."""


def is_under(path: str, above: str) -> bool:
    """Whether a dotted path is `above`, or lies below it."""
    return path == above or path.startswith(f"{above}.")


def freeze(value: Any) -> Hashable:
    """A hashable key of a plain value: equal settings have equal keys; 1, 1.0 and True have different ones."""
    if value is None or isinstance(value, bool | str | int):
        return (type(value).__name__, value)
    if isinstance(value, float):
        return ("float", (value + 0.0).hex())  # -0.0 is 0.0; NaN equals itself
    if isinstance(value, dict):
        return ("map", frozenset((key, freeze(item)) for key, item in value.items()))
    return ("list", tuple(freeze(item) for item in value))


def plain_value(value: Any) -> Any:
    """Numbers, truth values and texts of numpy, also inside of lists and mappings, as Python's own; all else as is."""
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value.item() if getattr(value, "shape", None) == () else value


@dataclass(frozen=True)
class Belief:
    """A value that is believed to be good, and how firmly, between 0 and 1 (what that means: samplers/_belief.py)."""

    value: Any
    confidence: float


@dataclass(frozen=True)
class Parameter(ABC):
    """Base of the four kinds. `condition` is None for a parameter that always counts."""

    kind: ClassVar[Literal["float", "int", "choice", "ordinal"]]
    path: str
    condition: Condition | None = field(default=None, kw_only=True)
    prior: Belief | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def size(self) -> int | float:
        """How many values there are (for a choice: branches); inf when continuous."""

    @abstractmethod
    def coerce(self, value: Any) -> Any:
        """The parameter's own value equal to `value` (1 becomes 1.0 for a float). Raises ValueError with the rule."""

    @abstractmethod
    def encode(self, value: Any) -> float:
        """The code of a contained value, in [0, 1]."""

    @abstractmethod
    def decode(self, u: float) -> Any:
        """The value at `u`, clipped to [0, 1]; the inverse of `encode` (see each class for its precision)."""

    @property
    @abstractmethod
    def grid_size(self) -> int | float:
        """How many values a grid takes; inf when continuous without `count`."""

    @abstractmethod
    def grid_value(self, i: int) -> Any:
        """Value i, from 0, of the `grid_size` ones that a grid takes, ascending."""

    def grid(self) -> Iterator[Any]:
        """The values that a grid takes. Raises ValueError when it cannot list them."""
        if self.grid_size == math.inf:
            raise ValueError(
                f"{self.path} is continuous ({self.text()}), and a grid lists its values; "
                "give it a step or a count, or use another sampler"
            )
        return map(self.grid_value, range(int(self.grid_size)))

    def uncounted(self) -> Self:
        """The same parameter without `count`: its grid takes every value."""
        return self

    @property
    @abstractmethod
    def ends(self) -> tuple[Any, ...]:
        """What must be valid for all to be: the lowest and highest value of a number, every value of a choice."""

    @abstractmethod
    def text(self) -> str:
        """The range for people: `0.0001 to 1, log`."""

    def contains(self, value: Any) -> bool:
        """Whether `value` is one of the parameter's own (an int also counts as the equal float)."""
        try:
            return self.key(self.coerce(value)) == self.key(value)
        except ValueError:
            return False

    def key(self, value: Any) -> Hashable:
        """Hashable; equal for equal values."""
        return freeze(value)


@dataclass(frozen=True)
class _Listed(Parameter):
    """A parameter whose values are written out; decode(encode(v)) == v exactly."""

    values: tuple[Any, ...]

    @property
    @override
    def size(self) -> int:
        return len(self.values)

    @cached_property
    def _indices(self) -> dict[Hashable, int]:
        return {freeze(value): index for index, value in enumerate(self.values)}

    def index(self, value: Any) -> int:
        """Position of a contained value. Raises ValueError when it is none."""
        found = self._indices.get(freeze(value))
        if found is None:
            raise ValueError(f"{value!r} is none of: {self.text()}")
        return found

    def value(self, index: int) -> Any:
        """A copy of the value at `index`."""
        value = self.values[index]
        return copy.deepcopy(value) if isinstance(value, dict | list) else value

    @override
    def coerce(self, value: Any) -> Any:
        try:
            return self.value(self.index(value))
        except ValueError:
            equal = [own for own in self.values if not isinstance(own, bool | str) and _equal_number(own, value)]
            if not equal:
                raise
            return equal[0]

    @override
    def encode(self, value: Any) -> float:
        return (self.index(value) + 0.5) / len(self.values)

    @override
    def decode(self, u: float) -> Any:
        return self.value(min(max(int(u * len(self.values)), 0), len(self.values) - 1))

    @override
    def grid_value(self, i: int) -> Any:
        return self.value(i)

    @property
    @override
    def grid_size(self) -> int:
        return len(self.values)

    @property
    @override
    def ends(self) -> tuple[Any, ...]:
        return tuple(self.grid())

    @override
    def text(self) -> str:
        return " | ".join(str(value.get("type", value) if isinstance(value, dict) else value) for value in self.values)


def _equal_number(own: Any, value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and bool(own == value)


@dataclass(frozen=True)
class Choice(_Listed):
    """Unordered values or whole sections; of a section, the value is its fixed part (without what is searched)."""

    kind = "choice"


@dataclass(frozen=True)
class Ordinal(_Listed):
    """Ordered values: neighbours are alike."""

    kind = "ordinal"
