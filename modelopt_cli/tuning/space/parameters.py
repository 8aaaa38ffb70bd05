"""Search parameters: ranges of numbers (float, int) and lists of values (choice, ordinal).

Each maps its values to the unit interval and back. One with finitely many values numbers them 0 .. size-1 and gives
each an equal share of [0, 1], its code being the middle of its share. Two are otherwise: a continuous float is
(log-)linear in its code; an int with `log` gets the share of [0, 1] that [v - 1/2, v + 1/2] has on the log axis.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

from typing_extensions import override

Branch = tuple[str, int]
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
class Prior:
    """A value that is believed to be good, and how firmly, between 0 and 1."""

    value: Any
    confidence: float


@dataclass(frozen=True)
class Parameter(ABC):
    """Base of the four kinds. `condition` is None for a parameter that always counts."""

    kind: ClassVar[Literal["float", "int", "choice", "ordinal"]]
    path: str
    condition: Branch | None = field(default=None, kw_only=True)
    prior: Prior | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def size(self) -> int | float:
        """How many values there are (for a choice: branches); inf when continuous."""

    @abstractmethod
    def coerce(self, value: object) -> Any:
        """The parameter's own value equal to `value` (1 becomes 1.0 for a float). Raises ValueError with the rule."""

    @abstractmethod
    def encode(self, value: Any) -> float:
        """The code of a contained value, in [0, 1]."""

    @abstractmethod
    def decode(self, u: float) -> Any:
        """The value at `u`, clipped to [0, 1]; the inverse of `encode` (see each class for its precision)."""

    @abstractmethod
    def grid_value(self, i: int) -> Any:
        """Value i, from 0, of the `grid_size` ones that a grid takes, ascending."""

    @abstractmethod
    def text(self) -> str:
        """The range for people: `0.0001 to 1, log`."""

    @property
    def grid_size(self) -> int | float:
        """How many values a grid takes; inf when continuous without `count`."""
        return self.size

    def grid(self) -> Iterator[Any]:
        """The values that a grid takes. Raises ValueError when it cannot list them."""
        if self.grid_size == math.inf:
            raise ValueError(
                f"{self.path} is continuous ({self.text()}), and a grid lists its values; "
                "give it a step or a count, or use another sampler"
            )
        return map(self.grid_value, range(int(self.grid_size)))

    @property
    def ordered(self) -> bool:
        """Whether neighbouring values are alike, so that a model may take them as numbers."""
        return True

    def uncounted(self) -> Self:
        """The same parameter without `count`: its grid takes every value."""
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """What must be valid for all to be: the lowest and highest value of a number, every value of a choice."""
        return tuple(self.grid())

    def contains(self, value: object) -> bool:
        """Whether `value` is one of the parameter's own (an int also counts as the equal float)."""
        try:
            return self.key(self.coerce(value)) == self.key(value)
        except ValueError:
            return False

    def key(self, value: object) -> Hashable:
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

    def index(self, value: object) -> int:
        """Position of a contained value. Raises ValueError when it is none."""
        index = self._indices.get(freeze(value))
        if index is None:
            raise ValueError(f"{value!r} is none of: {self.text()}")
        return index

    def value(self, index: int) -> Any:
        """A copy of the value at `index`."""
        value = self.values[index]
        return copy.deepcopy(value) if isinstance(value, dict | list) else value

    @override
    def coerce(self, value: object) -> Any:
        try:
            return self.value(self.index(value))
        except ValueError:
            equal = [own for own in self.values if not isinstance(own, bool | str) and _equal_number(own, value)]
            if not equal:
                raise
            return equal[0]

    @override
    def encode(self, value: object) -> float:
        return (self.index(value) + 0.5) / len(self.values)

    @override
    def decode(self, u: float) -> Any:
        return self.value(min(max(int(u * len(self.values)), 0), len(self.values) - 1))

    @override
    def grid_value(self, i: int) -> Any:
        return self.value(i)

    @override
    def text(self) -> str:
        return " | ".join(str(value.get("type", value) if isinstance(value, dict) else value) for value in self.values)


def _equal_number(own: object, value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and bool(own == value)


@dataclass(frozen=True)
class Choice(_Listed):
    """Unordered values or whole sections; of a section, the value is its fixed part (without what is searched)."""

    kind = "choice"

    @cached_property
    @override
    def ordered(self) -> bool:
        """Three or more numbers that rise, or fall, from each to the next are ordered."""
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in self.values):
            return False
        numbers = [float(value) for value in self.values]
        rising = sum(a < b for a, b in pairwise(numbers))
        falling = sum(a > b for a, b in pairwise(numbers))
        return len(numbers) > 2 and max(rising, falling) == len(numbers) - 1


@dataclass(frozen=True)
class Ordinal(_Listed):
    """Ordered values: neighbours are alike."""

    kind = "ordinal"


def _exact(number: float) -> Fraction:
    """The decimal number as it was written: steps of 0.1 meet 0.3, not 0.30000000000000004."""
    return Fraction(repr(number))


def _spread(size: int, count: int | None, i: int) -> int:
    """Index i of `count` spread evenly over 0 .. size-1, both ends included (the middle for a count of 1)."""
    if count is None or count >= size:
        return i
    return (size - 1) // 2 if count == 1 else (2 * i * (size - 1) + count - 1) // (2 * (count - 1))


def _number_in(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r} is no number in [{low!r}, {high!r}]")
    return value


@dataclass(frozen=True)
class _Range(Parameter):
    """A number in [low, high]; `step` restricts it to low + k step, `count` says how many points a grid takes."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    count: int | None = None

    @override
    def uncounted(self) -> Self:
        return replace(self, count=None)

    @property
    @override
    def ends(self) -> tuple[Any, ...]:
        return (self.low,) if self.size == 1 else (self.low, self.decode(1.0))

    @override
    def text(self) -> str:
        step = "" if self.step is None else f", step {self.step:g}"
        return f"{self._bounds()}{', log' if self.log else ''}{step}"

    def _bounds(self) -> str:
        return f"{self.low} to {self.high}"


@dataclass(frozen=True)
class Float(_Range):
    """A float.

    Continuous: decode(encode(v)) equals v within 1e-15 of the larger bound's size, with `log` within 1e-12 relative;
    the bounds themselves, and all values with `step`, come back exactly.
    """

    kind = "float"

    @cached_property
    @override
    def size(self) -> int | float:
        if self.low == self.high:
            return 1
        if self.step is None:
            return math.inf
        return int((_exact(self.high) - _exact(self.low)) // _exact(self.step)) + 1

    def _value(self, index: int) -> float:
        return self.low if self.step is None else float(_exact(self.low) + index * _exact(self.step))

    def _index(self, value: float) -> int:
        return 0 if self.step is None else min(max(round((value - self.low) / self.step), 0), int(self.size) - 1)

    @override
    def coerce(self, value: object) -> float:
        number = _number_in(value, self.low, self.high)
        if self.step is None:
            return float(number)
        near = self._value(self._index(number))
        if abs(near - number) > 1e-9 * self.step:
            raise ValueError(f"{value!r} is not {self.low!r} plus a multiple of the step {self.step!r}")
        return near

    @override
    def encode(self, value: float) -> float:
        if math.isfinite(self.size):
            return (self._index(value) + 0.5) / self.size
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        width = math.log(self.high) - math.log(self.low)
        return min(max((math.log(value) - math.log(self.low)) / width, 0.0), 1.0) if width > 0 else 0.5

    @override
    def decode(self, u: float) -> float:
        if math.isfinite(self.size):
            return self._value(min(max(int(u * self.size), 0), int(self.size) - 1))
        if u <= 0.0 or u >= 1.0:
            return self.low if u <= 0.0 else self.high
        if self.log:
            value = math.exp(math.log(self.low) * (1 - u) + math.log(self.high) * u)
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(value, self.low), self.high)

    @override
    def grid_value(self, i: int) -> float:
        if math.isfinite(self.size):
            return self._value(_spread(int(self.size), self.count, i))
        return self._point(i)

    def _point(self, i: int) -> float:
        """Point i of `count` on the continuous axis; inner points rounded to what a person would write."""
        count = self.count or 1
        if count > 1 and i in (0, count - 1):
            return self.high if i else self.low
        share = Fraction(i, count - 1) if count > 1 else Fraction(1, 2)
        if self.log:
            return min(max(float(f"{self.decode(float(share)):.12g}"), self.low), self.high)
        return float(_exact(self.low) + share * (_exact(self.high) - _exact(self.low)))

    @property
    @override
    def grid_size(self) -> int | float:
        return min(self.size, self.count or math.inf)

    @override
    def _bounds(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    @override
    def key(self, value: object) -> Hashable:
        return freeze(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)


@dataclass(frozen=True)
class Integer(_Range):
    """A whole number; decode(encode(v)) == v exactly, up to 2**52 values.

    Of more, codes (floats) tell only some apart, and decode to a neighbour: seeds of 64 bits can be searched, too.
    """

    kind = "int"
    low: int
    high: int
    step: int | None = None

    @property
    @override
    def size(self) -> int:
        return (self.high - self.low) // (self.step or 1) + 1

    @override
    def coerce(self, value: object) -> int:
        number = _number_in(value, self.low, self.high)
        if number != int(number):
            raise ValueError(f"{value!r} is no whole number")
        if (int(number) - self.low) % (self.step or 1):
            raise ValueError(f"{value!r} is not {self.low!r} plus a multiple of the step {self.step!r}")
        return int(number)

    def _edges(self) -> tuple[float, float]:
        """The log axis, from half a unit below `low` to half a unit above `high`."""
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    @override
    def encode(self, value: int) -> float:
        if self.log:
            a, b = self._edges()
            return (math.log(value) - a) / (b - a) if b > a else 0.5  # floats no longer tell large neighbours apart
        return ((value - self.low) // (self.step or 1) + 0.5) / self.size

    @override
    def decode(self, u: float) -> int:
        u = min(max(u, 0.0), 1.0)
        if self.log:
            a, b = self._edges()
            return min(max(math.floor(math.exp(a + (b - a) * u) + 0.5), self.low), self.high)
        return self.low + min(int(u * self.size), self.size - 1) * (self.step or 1)

    @cached_property
    def _log_points(self) -> list[int] | None:
        """The `count` points of a logarithmic grid, rounded, each once."""
        if not self.log or self.count is None or self.count >= self.size:
            return None
        shares = [i / (self.count - 1) for i in range(self.count)] if self.count > 1 else [0.5]
        return sorted({round(self.low * (self.high / self.low) ** share) for share in shares})

    @override
    def grid_value(self, i: int) -> int:
        if self._log_points is not None:
            return self._log_points[i]
        return self.low + _spread(self.size, self.count, i) * (self.step or 1)

    @property
    @override
    def grid_size(self) -> int:
        return min(self.size, self.count or self.size) if self._log_points is None else len(self._log_points)
