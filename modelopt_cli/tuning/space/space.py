"""The search space: a tree of parameters that knows conditions and encodes settings to and from the unit cube.

A setting (`Params`) is a flat dict, dotted path -> plain value, of exactly the parameters that count in it. Where a
choice is between sections, its value is the section's fixed part, and what is searched inside it stands under paths of
its own: {"training.optimizer": {"type": "sgd"}, "training.optimizer.momentum": 0.9}.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.tuning.space.matching import holder_of, lookup, own_value
from modelopt_cli.tuning.space.parameters import (
    Choice,
    Float,
    Integer,
    Ordinal,
    Parameter,
    freeze,
    is_under,
    plain_value,
)
from modelopt_cli.tuning.space.rules import Rule, is_number
from modelopt_cli.tuning.space.spec import parse
from modelopt_cli.tuning.space.tree import Node, SpaceError, grid_point, spans, walk
from modelopt_cli.tuning.trials.trial import Params

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Choice", "Float", "Integer", "Ordinal", "Parameter", "Space", "SpaceError"]

_LISTED = 50_000  # settings that are counted one by one, where there are rules
_AT_ENDS = 100  # tries to find a setting that keeps the rules, whose numbers are bounds
_TRIES = 20_000  # random settings until one keeps the rules


@dataclass(frozen=True, eq=False)
class Space:
    """See the module docstring. Made by `Space.from_spec`; equal when the parameters and the rules are.

    `rules` (space/rules.py) leave combinations out: what breaks one is no setting of the space. They name searched
    paths alone, or what lies in the value of one.
    """

    roots: tuple[Node, ...]
    spec: Mapping[str, Any]
    rules: tuple[Rule, ...] = ()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], rules: Sequence[str | Rule] = ()) -> Space:
        """The space as written under `tuning.space` (forms: space/spec.py) and `tuning.rules`. Raises SpaceError.

        So it does when a rule names nothing that is searched, or when no setting keeps them all.
        """
        space = cls(parse(spec), copy.deepcopy(dict(spec)))
        return space.ruled([rule if isinstance(rule, Rule) else _rule(rule) for rule in rules]) if rules else space

    def ruled(self, rules: Sequence[Rule]) -> Space:
        """The same with these rules only. Raises SpaceError, whose `where` begins with the number of the rule."""
        for number, rule in enumerate(rules):
            for path in rule.paths:
                values = list(self._values_of(path))
                if not values:
                    known = did_you_mean(path, self.paths).strip() or f"searched: {', '.join(self.paths)}"
                    raise SpaceError(f"'{rule}' names '{path}', which is not searched; {known}", (number,))
                if not any(is_number(value) for value in values):
                    raise SpaceError(f"'{rule}' compares '{path}', which is never a number; leave it out", (number,))
            if not rule.paths:
                raise SpaceError(f"'{rule}' names nothing that is searched; remove it", (number,))
        space = Space(self.roots, self.spec, tuple(rules))
        kept = space._kept()
        if kept < len(rules):
            others = f", with {', '.join(repr(str(rule)) for rule in rules[:kept])}" if kept else ""
            raise SpaceError(f"no setting of the space keeps '{rules[kept]}'{others}; loosen it", (kept,))
        return space

    def names(self, path: str) -> bool:
        """Whether a path is searched, or lies in some value of one that is."""
        return any(True for _ in self._values_of(path))

    def _values_of(self, path: str) -> Iterator[Any]:
        """What may stand at a path in a setting: bounds of a number, values of a choice, what lies in these."""
        for parameter in self.parameters:
            if is_under(path, parameter.path):
                for value in parameter.ends:
                    with suppress(KeyError):
                        yield lookup(value, path[len(parameter.path) :])

    def _kept(self) -> int:
        """How many rules, from the first on, some setting keeps together; all are asked, or many random ones."""
        best = 0
        listed = self._unruled.every() if self._unruled.size <= _LISTED else self._drawn(random.Random(0), _TRIES)
        for params in listed:
            kept = next((number for number, rule in enumerate(self.rules) if not self._keeps(rule, params)), None)
            if kept is None:
                return len(self.rules)
            best = max(best, kept)
        return best

    def _drawn(self, rng: random.Random, count: int) -> Iterator[Params]:
        """Random settings, whether they keep the rules or not."""
        return (self.decode([rng.random() for _ in range(self.dim)]) for _ in range(count))

    @cached_property
    def _unruled(self) -> Space:
        return Space(self.roots, self.spec)

    def _keeps(self, rule: Rule, params: Mapping[str, Any]) -> bool:
        def get(path: str) -> Any:
            holder = holder_of(path, params)
            if holder is None:
                raise KeyError(path)
            return lookup(params[holder], path[len(holder) :])

        return rule.holds(get)

    def broken(self, params: Mapping[str, Any]) -> Rule | None:
        """The first rule that a setting breaks; None: it keeps them all."""
        return next((rule for rule in self.rules if not self._keeps(rule, params)), None)

    def to_spec(self) -> dict[str, Any]:
        """What `from_spec` was given."""
        return copy.deepcopy(dict(self.spec))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and (self.roots, self.rules) == (other.roots, other.rules)

    def __hash__(self) -> int:
        return hash(tuple(parameter.path for parameter in self.parameters))

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, parents before children. Branches of one choice may hold different ones of equal path."""
        return tuple(node.parameter for root in self.roots for node in root.walk())

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The paths of all parameters, each once."""
        return tuple(dict.fromkeys(parameter.path for parameter in self.parameters))

    @property
    def dim(self) -> int:
        """Number of parameters: the dimension of the unit cube."""
        return len(self.parameters)

    @cached_property
    def size(self) -> int | float:
        """Number of distinct settings, conditions and rules honoured; inf when a float is continuous.

        Of more than 50,000 settings those that break a rule are counted, too.
        """
        size = math.prod(root.size for root in self.roots)
        if not self.rules or size > _LISTED:
            return size
        return sum(self.broken(params) is None for params in self._unruled.every())

    @cached_property
    def grid_size(self) -> int | float:
        """Length of `grid()`; inf when a continuous float has no `count`. Of rules: as `size`."""
        return self._raw_grid_size if self._grid_indices is None else len(self._grid_indices)

    @property
    def _raw_grid_size(self) -> int | float:
        return math.prod(root.grid_size for root in self.roots)

    @cached_property
    def _grid_indices(self) -> list[int] | None:
        """Which points of the grid keep the rules; None: all, or there are too many to list."""
        if not self.rules or self._raw_grid_size > _LISTED:
            return None
        indices = range(int(self._raw_grid_size))
        return [index for index in indices if self.broken(grid_point(self.roots, index)) is None]

    # Settings

    def walk(self, pick: Callable[[int, Parameter], Any]) -> Params:
        """The setting whose active parameters have the values that `pick(position, parameter)` gives."""
        return walk(self.roots, pick)

    def positions(self, params: Mapping[str, Any]) -> list[int]:
        """Positions in `parameters` of those that count in `params`. Raises KeyError or ValueError."""
        positions: list[int] = []

        def pick(position: int, parameter: Parameter) -> Any:
            positions.append(position)
            return params[parameter.path]

        self.walk(pick)
        return positions

    def active(self, params: Mapping[str, Any]) -> tuple[Parameter, ...]:
        """The parameters that count in `params`, in order. Raises KeyError or ValueError when it is no setting."""
        return tuple(self.parameters[position] for position in self.positions(params))

    def problem(self, params: Mapping[str, Any]) -> str | None:
        """Why `params` is no setting of this space, with value, rule and remedy; None when it is one."""
        allowed: dict[str, Parameter] = {}
        try:
            for parameter in self.active(params):
                allowed[parameter.path] = parameter
                if not parameter.contains(params[parameter.path]):
                    return f"{parameter.path} = {params[parameter.path]!r} is not in the space: {parameter.text()}"
        except KeyError as error:
            return f"{error.args[0]} has no value; give it one"
        except ValueError as error:
            return str(error)
        foreign = [path for path in params if path not in allowed]
        if foreign:
            return f"{foreign[0]} is not searched in this setting; remove it"
        rule = self.broken(params)
        return None if rule is None else f"it breaks the rule '{rule}'; change a value, or the rule"

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether `params` holds exactly the parameters that count, each with a value of its own."""
        return self.problem(params) is None

    def plain(self, params: Mapping[str, Any]) -> Params:
        """`params` with the parameters' own values for equal ones: those of numpy, and 7.0 for 7, as data frames hold.

        What is no value of the space stays, for `problem` to name.
        """
        own_values: Params = {path: plain_value(value) for path, value in params.items()}

        def pick(_: int, parameter: Parameter) -> Any:
            value = own_values[parameter.path] = parameter.coerce(own_values[parameter.path])
            return value

        with suppress(KeyError, ValueError):
            self.walk(pick)
        return own_values

    @cached_property
    def _floats(self) -> dict[str, Float]:
        return {parameter.path: parameter for parameter in self.parameters if isinstance(parameter, Float)}

    def canonical(self, params: Mapping[str, Any]) -> Hashable:
        """A key, equal exactly for equal settings (floats by value; 1, 1.0 and True are not confused)."""
        floats = self._floats
        return frozenset(
            (path, floats[path].key(value) if path in floats else freeze(value)) for path, value in params.items()
        )

    # Unit cube

    def encode(self, params: Mapping[str, Any]) -> np.ndarray:
        """(dim,) float64 in [0, 1]; NaN for parameters that do not count in `params`."""
        import numpy as np

        u = np.full(self.dim, np.nan)
        for position in self.positions(params):
            parameter = self.parameters[position]
            u[position] = parameter.encode(params[parameter.path])
        return u

    def decode(self, u: np.ndarray | Sequence[float]) -> Params:
        """The setting at `u` (dim,); coordinates of parameters that do not count are ignored (NaN allowed)."""
        return self.walk(lambda position, parameter: parameter.decode(float(u[position])))

    def sample(self, rng: np.random.Generator) -> Params:
        """A random setting: uniform in the unit cube where that keeps the rules. Raises SpaceError for want of one."""
        params = self.decode(rng.random(self.dim))
        for _ in range(_TRIES if self.rules else 0):
            if self.broken(params) is None:
                return params
            params = self.decode(rng.random(self.dim))
        if self.rules:
            params = self._listed_sample(rng)
        return params

    def _listed_sample(self, rng: np.random.Generator) -> Params:
        """One of the settings that keep the rules, where random ones hardly ever do."""
        if self._unruled.size <= _LISTED:
            settings = [params for params in self._unruled.every() if self.broken(params) is None]
            if settings:
                return settings[int(rng.integers(len(settings)))]
        raise SpaceError(f"none of {_TRIES} random settings keeps the rules {self._rule_texts}; loosen them")

    @property
    def _rule_texts(self) -> str:
        return ", ".join(f"'{rule}'" for rule in self.rules)

    def kept(self, codes: np.ndarray) -> np.ndarray:
        """(N,) bool: which points of the cube (N, dim) decode to settings that keep the rules."""
        import numpy as np

        return np.array([not self.rules or self.broken(self.decode(code)) is None for code in codes], dtype=bool)

    # Lists of settings

    def grid(self) -> Iterator[Params]:
        """Every point of the grid that keeps the rules, lazily, in the file's order, the last parameter the fastest.

        Raises SpaceError at once when a continuous float has neither `step` nor `count`.
        """
        for root in self.roots:
            for node in root.walk():
                try:
                    node.parameter.grid()
                except ValueError as error:
                    raise SpaceError(str(error), (*node.where, node.parameter.kind)) from None
        points = map(self.grid_point, range(int(self.grid_size)))
        return (params for params in points if self.broken(params) is None) if self.rules else points

    def grid_point(self, index: int) -> Params:
        """Point `index`, from 0, of the `grid_size` ones of `grid()`; where these are uncounted it may break a rule."""
        return grid_point(self.roots, index if self._grid_indices is None else self._grid_indices[index])

    def every(self) -> Iterator[Params]:
        """Every setting of a finite space, lazily, as `grid` without heed of `count`."""
        return Space(tuple(root.uncounted() for root in self.roots), self.spec, self.rules).grid()

    def corners(self) -> Iterator[Params]:
        """Settings that show every branch of every choice, and the lowest and highest value of every number.

        As many as the values asked for at most, not their product: enough to validate the whole space by.
        """
        if self.rules:
            yield from self._ruled_corners()
            return
        missing = {position: list(range(len(parameter.ends))) for position, parameter in enumerate(self.parameters)}

        def pick(position: int, parameter: Parameter) -> Any:
            if missing[position]:
                return parameter.ends[missing[position].pop(0)]
            for branch, span in enumerate(self.below.get(position, ())):
                if any(missing[child] for child in range(*span)):
                    return parameter.ends[branch]
            return parameter.ends[0]

        while any(missing.values()):
            yield self.walk(pick)

    def _ruled_corners(self) -> Iterator[Params]:
        """Each branch and bound in a setting that keeps the rules, as far as one is found."""
        rng = random.Random(0)
        for target, own in enumerate(self.parameters):
            for end in own.ends:
                tried = (
                    self._with_end(target, end, rng, at_ends=attempt < _AT_ENDS) for attempt in range(2 * _AT_ENDS)
                )
                yield from islice((params for params in tried if self.broken(params) is None), 1)

    def _with_end(self, target: int, end: object, rng: random.Random, *, at_ends: bool) -> Params:
        """A setting in which the parameter at `target` counts and is `end`; others are at ends, or anywhere."""

        def pick(position: int, parameter: Parameter) -> Any:
            if position == target:
                return end
            for branch, span in enumerate(self.below.get(position, ())):
                if target in range(*span):
                    return parameter.ends[branch]
            return rng.choice(parameter.ends) if at_ends else parameter.decode(rng.random())

        return self.walk(pick)

    @cached_property
    def below(self) -> dict[int, list[tuple[int, int]]]:
        """Position of a choice -> for each branch, where in `parameters` everything below it starts and stops."""
        return spans(self.roots)

    # Experiment files

    def from_values(self, get: Callable[[str], Any]) -> Params | None:
        """The setting that an experiment file itself stands for; None when the file lies outside the ranges.

        It may break a rule (`broken`).

        `get(path)` gives the file's value or raises KeyError. How sections are matched: tuning/space/matching.py.
        """
        try:
            return self.walk(lambda _, parameter: own_value(parameter, get(parameter.path), self.paths))
        except (KeyError, ValueError):
            return None

    def complete(self, given: Mapping[str, Any], get: Callable[[str], Any]) -> Params:
        """The setting with the values `given`; where one is missing, the file's (`get`, as in `from_values`) counts.

        Where the file's lies outside the space too, the middle of the range does. A given section may hold what is
        searched inside it. Raises SpaceError for a value outside the space and for a path that does not count.
        """
        used: set[str] = set()

        def pick(_: int, parameter: Parameter) -> Any:
            holder = holder_of(parameter.path, given)
            if holder is None:
                with suppress(KeyError, ValueError):
                    return own_value(parameter, get(parameter.path), self.paths)
                return parameter.decode(0.5)
            used.add(holder)
            try:
                return own_value(parameter, lookup(given[holder], parameter.path[len(holder) :]), self.paths)
            except ValueError as error:
                raise SpaceError(f"{error}; write a value of the space", (parameter.path,)) from None

        params = self.walk(pick)
        for path in given:
            if path not in used:
                raise SpaceError(f"not searched in this setting; remove it.{did_you_mean(path, params)}", (path,))
        return params

    def describe(self) -> list[dict[str, str]]:
        """Rows for people: path, kind, range, when it is searched (empty: always)."""
        rows: list[dict[str, str]] = []

        def visit(nodes: Sequence[Node], condition: str) -> None:
            for node in nodes:
                own = node.parameter
                rows.append({"path": own.path, "kind": own.kind, "range": own.text(), "when": condition})
                for value, branch in zip(own.ends, node.branches, strict=False):
                    visit(branch, f"{own.path} = {_name(value)}")

        visit(self.roots, "")
        return rows


def _rule(text: str) -> Rule:
    try:
        return Rule.parse(text)
    except ValueError as error:
        raise SpaceError(str(error)) from None


def _name(value: object) -> str:
    return str(value.get("type", value) if isinstance(value, Mapping) else value)
