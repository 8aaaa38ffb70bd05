"""Conditions between runs (`B.test.accuracy >= A.test.accuracy - 0.005`), as the user writes them.

    condition   side, one of <= >= < > ==, side
    side        products that are added and subtracted
    product     factors that are multiplied, or divided by a number; at most one of them is a metric
    factor      a number (`0.95`, `100_000`, `5%`), or a run's letter, a dot and a metric (`A.test.accuracy`), with or
                without a sign

Both sides are so linear in the metrics. Names may hold a minus sign, so one that subtracts stands apart from them.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from modelopt_cli.core.conditions import METRIC

_NUMBER = r"(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?%?"
_TOKEN = re.compile(rf"\s*(?:(?P<metric>{METRIC})|(?P<number>{_NUMBER})|(?P<sign><=|>=|==|[<>])|(?P<other>\S))")
_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
_EXAMPLE = "write e.g. 'B.test.accuracy >= A.test.accuracy - 0.005' or 'B.model.size_bytes <= 0.5 * A.model.size_bytes'"
_LONGEST = 500  # characters
ROUNDING = 1e-12
"""Sides that differ by no more than this share of their terms are equal: what 0.955 - 0.005 is above 0.95 is none."""


@dataclass(frozen=True)
class Linear:
    """A sum: metric -> factor, and a constant."""

    factors: Mapping[str, float] = field(default_factory=dict)
    constant: float = 0.0

    def times(self, factor: float) -> Linear:
        """Every term multiplied."""
        return Linear({name: factor * each for name, each in self.factors.items()}, factor * self.constant)

    def plus(self, other: Linear) -> Linear:
        """The sum of both."""
        names = dict.fromkeys([*self.factors, *other.factors])
        total = {name: self.factors.get(name, 0.0) + other.factors.get(name, 0.0) for name in names}
        return Linear(total, self.constant + other.constant)

    def terms(self, metrics: Mapping[str, float]) -> list[float]:
        """What is added up. Raises KeyError for a metric that is missing."""
        return [*(factor * metrics[name] for name, factor in self.factors.items()), self.constant]


@dataclass(frozen=True)
class LinearCondition:
    """See the module docstring; `text` is the condition as it was written."""

    text: str
    left: Linear
    operator: str
    right: Linear

    @classmethod
    def parse(cls, text: str) -> LinearCondition:
        """Raises ValueError with what is wrong, and where, when `text` is no condition."""
        return _Parser(text).condition()

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it is about, each with its run's letter, in the order in which they are written."""
        return tuple(dict.fromkeys([*self.left.factors, *self.right.factors]))

    def lacking(self, metrics: Mapping[str, float]) -> list[str]:
        """Those that are missing or NaN; while there is one, the condition is not met."""
        return [name for name in self.names if math.isnan(metrics.get(name, math.nan))]

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """What the left side comes to; None while a metric of the condition is missing."""
        return None if self.lacking(metrics) else sum(self.left.terms(metrics))

    def bound(self, metrics: Mapping[str, float]) -> float | None:
        """What the right side comes to; None while a metric of the condition is missing."""
        return None if self.lacking(metrics) else sum(self.right.terms(metrics))

    def margin(self, metrics: Mapping[str, float]) -> float | None:
        """Distance of the sides, positive on the good side; None while a metric is missing, or both are infinite."""
        if self.lacking(metrics):
            return None
        left, right = self.left.terms(metrics), self.right.terms(metrics)
        distance, largest = sum(left) - sum(right), max(map(abs, [*left, *right]))
        if math.isnan(distance):
            return None
        if math.isfinite(largest) and abs(distance) <= ROUNDING * largest:
            distance = 0.0
        return {"<": -distance, "<=": -distance, "==": -abs(distance)}.get(self.operator, distance) + 0.0  # no -0.0

    def met(self, metrics: Mapping[str, float]) -> bool:
        """False also while there is no margin."""
        margin = self.margin(metrics)
        return margin is not None and (margin > 0 or (margin == 0 and self.operator in ("<=", ">=", "==")))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Token:
    kind: str  # metric | number | sign | other | end
    text: str
    at: int  # of its first character, from 0


class _Parser:
    """Reads one condition from left to right."""

    def __init__(self, text: str) -> None:
        self._text = " ".join(text.split())
        if len(self._text) > _LONGEST:
            raise ValueError(f"a condition of {len(self._text):,} characters is too long (at most {_LONGEST})")
        self._tokens = list(self._read())
        self._next = 0

    def _read(self) -> Iterator[_Token]:
        for match in _TOKEN.finditer(self._text):
            kind = match.lastgroup or "other"
            yield _Token(kind, match[kind], match.start(kind))
        yield _Token("end", "", len(self._text))

    def condition(self) -> LinearCondition:
        left = self._side()
        sign = self._take()
        if sign.kind != "sign":
            self._fail(sign, "one of <= >= < > == is expected")
        right = self._side()
        end = self._take()
        if end.kind == "sign":
            self._fail(end, "a second comparison stands; write two conditions")
        if end.kind != "end":
            self._fail(end, "one of + - * / or the end is expected")
        if not left.factors and not right.factors:
            raise ValueError(f"{self._text!r} names no metric of a run; {_EXAMPLE}")
        return LinearCondition(self._text, left, sign.text, right)

    def _side(self) -> Linear:
        total = self._product(1.0)
        while self._tokens[self._next].text in ("+", "-"):
            total = total.plus(self._product(-1.0 if self._take().text == "-" else 1.0))
        return total

    def _product(self, sign: float) -> Linear:
        product = self._factor().times(sign)
        while self._tokens[self._next].text in ("*", "/"):
            symbol = self._take()
            factor = self._factor()
            if symbol.text == "/":
                if factor.factors:
                    self._fail(symbol, "a metric divides; multiply the other side by it, or by a number")
                if factor.constant == 0:
                    self._fail(symbol, "0 divides")
                product = product.times(1 / factor.constant)
            elif factor.factors and product.factors:
                self._fail(symbol, "two metrics are multiplied; only a number times a metric can be judged")
            else:
                product = factor.times(product.constant) if factor.factors else product.times(factor.constant)
        return product

    def _factor(self) -> Linear:
        sign = 1.0
        while self._tokens[self._next].text in ("+", "-"):
            sign = -sign if self._take().text == "-" else sign
        token = self._take()
        if token.kind == "metric":
            return Linear({token.text: sign})
        if token.kind == "number":
            digits = token.text.replace("_", "")
            number = float(digits[:-1]) / 100 if digits.endswith("%") else float(digits)
            if math.isinf(number):
                self._fail(token, f"{token.text} is too large a number")
            return Linear(constant=sign * number)
        if token.text in ("(", ")"):
            self._fail(token, "a bracket stands; multiply it out, as in 0.95 * A.x - 0.01")
        return self._fail(token, "a number or a metric is expected")

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _fail(self, token: _Token, problem: str) -> NoReturn:
        where = "at its end" if token.kind == "end" else f"at character {token.at + 1} ({token.text})"
        raise ValueError(f"{self._text!r} is no condition: {where} {problem}; {_EXAMPLE}")
