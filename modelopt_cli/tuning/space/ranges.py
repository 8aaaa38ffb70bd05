"""Search parameters that are ranges of numbers: float and int, on a plain, logarithmic or stepped axis.

A continuous float is (log-)linear in its code; an int with `log` gets the share of [0, 1] that [v - 1/2, v + 1/2] has
on the log axis; all else is as in parameters.py: equal shares.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from typing_extensions import override

from modelopt_cli.tuning.space.parameters import Parameter, freeze


def _exact(number: float) -> Fraction:
    """The decimal number as it was written: steps of 0.1 meet 0.3, not 0.30000000000000004."""
    return Fraction(repr(number))


def _spread(size: int, count: int | None, i: int) -> int:
    """Index i of `count` spread evenly over 0 .. size-1, both ends included (the middle for a count of 1)."""
    if count is None or count >= size:
        return i
    return (size - 1) // 2 if count == 1 else (2 * i * (size - 1) + count - 1) // (2 * (count - 1))


def _number(value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r} is no number in [{low!r}, {high!r}]")


@dataclass(frozen=True)
class Float(Parameter):
    """A number in [low, high]; `step` restricts it to low + k step, `count` says how many points a grid takes.

    Continuous: decode(encode(v)) equals v within 1e-15 of the larger bound's size, with `log` within 1e-12 relative;
    the bounds themselves, and all values with `step`, come back exactly.
    """

    kind = "float"
    low: float
    high: float
    log: bool = False
    step: float | None = None
    count: int | None = None

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
    def coerce(self, value: Any) -> float:
        _number(value, self.low, self.high)
        if self.step is None:
            return float(value)
        near = self._value(self._index(value))
        if abs(near - value) > 1e-9 * self.step:
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

    @override
    def uncounted(self) -> Float:
        return replace(self, count=None)

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

    @property
    @override
    def ends(self) -> tuple[float, ...]:
        return (self.low,) if self.size == 1 else (self.low, self.decode(1.0))

    @override
    def text(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", log" if self.log else "") + _step_text(self.step)

    @override
    def key(self, value: Any) -> Hashable:
        return freeze(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)


@dataclass(frozen=True)
class Integer(Parameter):
    """A whole number in [low, high], low + k step; decode(encode(v)) == v exactly, up to 2**52 values.

    Of more, codes (floats) tell only some apart, and decode to a neighbour: seeds of 64 bits can be searched, too.
    """

    kind = "int"
    low: int
    high: int
    log: bool = False
    step: int | None = None
    count: int | None = None

    @property
    @override
    def size(self) -> int:
        return (self.high - self.low) // (self.step or 1) + 1

    @override
    def coerce(self, value: Any) -> int:
        _number(value, self.low, self.high)
        if value != int(value):
            raise ValueError(f"{value!r} is no whole number")
        if (int(value) - self.low) % (self.step or 1):
            raise ValueError(f"{value!r} is not {self.low!r} plus a multiple of the step {self.step!r}")
        return int(value)

    def _edges(self) -> tuple[float, float]:
        """The log axis, from half a unit below `low` to half a unit above `high`."""
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    @override
    def encode(self, value: int) -> float:
        if self.log:
            a, b = self._edges()
            return (math.log(value) - a) / (b - a)
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

    @override
    def uncounted(self) -> Integer:
        return replace(self, count=None)

    @property
    @override
    def grid_size(self) -> int:
        return min(self.size, self.count or self.size) if self._log_points is None else len(self._log_points)

    @property
    @override
    def ends(self) -> tuple[int, ...]:
        return (self.low,) if self.size == 1 else (self.low, self.decode(1.0))

    @override
    def text(self) -> str:
        return f"{self.low} to {self.high}" + (", log" if self.log else "") + _step_text(self.step)


def _step_text(step: float | None) -> str:
    return "" if step is None else f", step {step:g}"
