"""Rules between searched values, such as `model.hidden.0 >= model.hidden.1`: combinations that cost no trial.

    rule   = sum ("<=" | ">=" | "<" | ">" | "==" | "!=") sum
    sum    = term {("+" | "-") term}
    term   = factor {"*" factor}
    factor = number | path | "(" sum ")" | ("-" | "+") factor

A path is dotted, as in tuning.space; one with other characters stands in quotes. A minus between paths has spaces
about it, for names may hold hyphens. A rule that names what does not count in a setting (the option of a branch that is
not chosen), or what is no number there, holds. Rules are parsed by this grammar alone; nothing is evaluated as code.
"""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Rule"]

Get = Callable[[str], Any]
"""Path -> its value. Raises KeyError for one that does not count."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?)"
    r"|(?P<path>[A-Za-z_][\w\-]*(?:\.[\w\-]+)*)"
    r"|(?P<quoted>'[^']+'|\"[^\"]+\")"
    r"|(?P<sign><=|>=|==|!=|[<>+\-*()]))"
)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_LONGEST, _DEEPEST = 1000, 50  # characters, and brackets in brackets
_HOW = "write e.g. model.hidden.0 >= model.hidden.1 (comparisons: <= >= < > == !=; + - * and brackets)"


class _Term(ABC):
    """A part of a rule that has a number."""

    @abstractmethod
    def number(self, get: Get) -> float:
        """Raises KeyError where something in it does not count."""

    @abstractmethod
    def paths(self) -> Iterator[str]:
        """The paths in it, from the left."""

    @abstractmethod
    def fixed(self, get: Get) -> _Term:
        """With the numbers that `get` gives in place of paths; those of which it raises KeyError stay."""


@dataclass(frozen=True)
class _Number(_Term):
    value: float

    def number(self, get: Get) -> float:
        return self.value

    def paths(self) -> Iterator[str]:
        return iter(())

    def fixed(self, get: Get) -> _Term:
        return self

    def __str__(self) -> str:
        return repr(self.value) if self.value >= 0 else f"({self.value!r})"


@dataclass(frozen=True)
class _Path(_Term):
    path: str

    def number(self, get: Get) -> float:
        value = get(self.path)
        if not is_number(value):
            raise KeyError(self.path)
        return float(value) if isinstance(value, float) else int(value)

    def paths(self) -> Iterator[str]:
        yield self.path

    def fixed(self, get: Get) -> _Term:
        try:
            return _Number(self.number(get))
        except KeyError:
            return self

    def __str__(self) -> str:
        match = _TOKEN.fullmatch(self.path)
        quote = "'" if '"' in self.path else '"'
        return self.path if match is not None and match["path"] else f"{quote}{self.path}{quote}"


@dataclass(frozen=True)
class _Pair(_Term):
    sign: str
    left: _Term
    right: _Term

    def number(self, get: Get) -> float:
        try:
            result: float = _ARITHMETIC[self.sign](self.left.number(get), self.right.number(get))
        except OverflowError:  # a whole number beyond floats, with a float
            return float("inf")
        return result

    def paths(self) -> Iterator[str]:
        yield from self.left.paths()
        yield from self.right.paths()

    def fixed(self, get: Get) -> _Term:
        return _Pair(self.sign, self.left.fixed(get), self.right.fixed(get))

    def __str__(self) -> str:
        return f"({self.left} {self.sign} {self.right})"


@dataclass(frozen=True)
class Rule:
    """`text`: as it was written."""

    text: str
    sign: str
    left: _Term
    right: _Term

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Raises ValueError with the rule and the remedy."""
        return _Parser(text).rule()

    @property
    def paths(self) -> tuple[str, ...]:
        """What it names, each once."""
        return tuple(dict.fromkeys((*self.left.paths(), *self.right.paths())))

    def holds(self, get: Get) -> bool:
        """Whether a setting keeps it; also where something that it names does not count there."""
        try:
            left, right = self.left.number(get), self.right.number(get)
        except KeyError:
            return True
        return bool(_COMPARISONS[self.sign](left, right))

    def fixed(self, get: Get) -> Rule:
        """The same with the numbers of a file in place of what is not searched."""
        left, right = self.left.fixed(get), self.right.fixed(get)
        if (left, right) == (self.left, self.right):
            return self
        return Rule(f"{_bare(left)} {self.sign} {_bare(right)}", self.sign, left, right)

    def __str__(self) -> str:
        return self.text


def is_number(value: object) -> bool:
    """Whether a rule can reckon with a value: true and false are no numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bare(term: _Term) -> str:
    text = str(term)
    return text[1:-1] if isinstance(term, _Pair) else text


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > _LONGEST:
            raise ValueError(f"the rule has {len(text)} characters, but may have {_LONGEST}; write several rules")
        self._tokens = list(self._split())
        self._at, self._depth = 0, 0

    def _split(self) -> Iterator[tuple[str, str]]:
        position, end = 0, len(self._text.rstrip())
        while position < end:
            match = _TOKEN.match(self._text, position)
            if match is None:
                rest = self._text[position:].strip()
                raise self._wrong(f"'{rest[:20]}' has no meaning in it")
            kind = str(match.lastgroup)
            yield kind, match[kind]
            position = match.end()

    def _wrong(self, why: str) -> ValueError:
        return ValueError(f"{self._text!r} is no rule: {why}; {_HOW}")

    @property
    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, signs: str) -> str:
        """The next sign, if it is one of these."""
        kind, text = self._next
        if kind != "sign" or text not in signs.split():
            return ""
        self._at += 1
        return text

    def rule(self) -> Rule:
        left = self._sum()
        sign = self._take(" ".join(_COMPARISONS))
        if not sign:
            what = f"'{self._next[1]}' stands where a comparison is due" if self._next[1] else "it compares nothing"
            raise self._wrong(what)
        right = self._sum()
        if self._take(" ".join(_COMPARISONS)):
            raise self._wrong("it holds two comparisons, so write two rules")
        if self._next[1]:
            raise self._wrong(f"'{self._next[1]}' stands after its end")
        return Rule(self._text.strip(), sign, left, right)

    def _sum(self) -> _Term:
        terms = self._term()
        while sign := self._take("+ -"):
            terms = _Pair(sign, terms, self._term())
        return terms

    def _term(self) -> _Term:
        factors = self._factor()
        while sign := self._take("*"):
            factors = _Pair(sign, factors, self._factor())
        return factors

    def _factor(self) -> _Term:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"brackets and signs are nested more than {_DEEPEST} deep")
        factor = self._inner()
        self._depth -= 1
        return factor

    def _inner(self) -> _Term:
        kind, text = self._next
        if sign := self._take("+ -"):
            inner = self._factor()
            return inner if sign == "+" else _negative(inner)
        if self._take("("):
            inner = self._sum()
            if not self._take(")"):
                raise self._wrong("a bracket is not closed")
            return inner
        if kind not in ("number", "path", "quoted"):
            raise self._wrong(f"'{text}' stands where a path or a number is due" if text else "it breaks off")
        self._at += 1
        if kind == "number":
            return _Number(self._number(text))
        return _Path(text if kind == "path" else text[1:-1])

    def _number(self, text: str) -> float:
        try:
            return int(text) if text.replace("_", "").isdigit() else float(text.replace("_", ""))
        except ValueError:
            raise self._wrong(f"'{text}' is no number") from None


def _negative(term: _Term) -> _Term:
    return _Number(-term.value) if isinstance(term, _Number) else _Pair("-", _Number(0), term)
