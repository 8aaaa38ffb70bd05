"""The search space: a tree of parameters that knows conditions and encodes settings to and from the unit cube.

A setting (`Params`) is a flat dict, dotted path -> plain value, of exactly the parameters that count in it. Where a
choice is between sections, its value is the section's fixed part, and what is searched inside it stands under paths of
its own: {"training.optimizer": {"type": "sgd"}, "training.optimizer.momentum": 0.9}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.tuning.matching import holder_of, lookup, own_value
from modelopt_cli.tuning.parameters import Choice, Ordinal, Parameter, freeze, plain_value
from modelopt_cli.tuning.ranges import Float, Integer
from modelopt_cli.tuning.spec import parse
from modelopt_cli.tuning.tree import Node, SpaceError, grid_point, spans, walk
from modelopt_cli.tuning.trial import Params

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Choice", "Float", "Integer", "Ordinal", "Parameter", "Space", "SpaceError"]


@dataclass(frozen=True, eq=False)
class Space:
    """See the module docstring. Made by `Space.from_spec`; equal when the parameters are."""

    roots: tuple[Node, ...]
    spec: Mapping[str, Any]

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Space:
        """The space as written under `tuning.space` (the forms: tuning/spec.py). Raises SpaceError."""
        return cls(parse(spec), copy.deepcopy(dict(spec)))

    def to_spec(self) -> dict[str, Any]:
        """What `from_spec` was given."""
        return copy.deepcopy(dict(self.spec))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.roots == other.roots

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
        """Number of distinct settings, conditions honoured; inf when a float is continuous."""
        return math.prod(root.size for root in self.roots)

    @cached_property
    def grid_size(self) -> int | float:
        """Length of `grid()`; inf when a continuous float has no `count`."""
        return math.prod(root.grid_size for root in self.roots)

    # Settings

    def walk(self, pick: Callable[[int, Parameter], Any]) -> Params:
        """The setting whose active parameters have the values that `pick(position, parameter)` gives."""
        return walk(self.roots, pick)

    def positions(self, params: Mapping[str, Any]) -> list[int]:
        """Positions in `parameters` of those that count in `params`. Raises KeyError or ValueError."""
        found: list[int] = []

        def pick(position: int, parameter: Parameter) -> Any:
            found.append(position)
            return params[parameter.path]

        self.walk(pick)
        return found

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
        return f"{foreign[0]} is not searched in this setting; remove it" if foreign else None

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether `params` holds exactly the parameters that count, each with a value of its own."""
        return self.problem(params) is None

    def plain(self, params: Mapping[str, Any]) -> Params:
        """`params` with the parameters' own values for equal ones: those of numpy, and 7.0 for 7, as data frames hold.

        What is no value of the space stays, for `problem` to name.
        """
        found: Params = {path: plain_value(value) for path, value in params.items()}

        def pick(_: int, parameter: Parameter) -> Any:
            value = found[parameter.path] = parameter.coerce(found[parameter.path])
            return value

        with suppress(KeyError, ValueError):
            self.walk(pick)
        return found

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
        """A random setting: uniform in the unit cube."""
        return self.decode(rng.random(self.dim))

    # Lists of settings

    def grid(self) -> Iterator[Params]:
        """Every point of the grid, lazily, in the file's order, the last parameter changing fastest.

        Raises SpaceError at once when a continuous float has neither `step` nor `count`.
        """
        for root in self.roots:
            for node in root.walk():
                try:
                    node.parameter.grid()
                except ValueError as error:
                    raise SpaceError(str(error), (*node.where, node.parameter.kind)) from None
        return map(self.grid_point, range(int(self.grid_size)))

    def grid_point(self, index: int) -> Params:
        """Point `index`, from 0, of the `grid_size` ones of `grid()`."""
        return grid_point(self.roots, index)

    def every(self) -> Iterator[Params]:
        """Every setting of a finite space, lazily, as `grid` without heed of `count`."""
        return Space(tuple(root.uncounted() for root in self.roots), self.spec).grid()

    def corners(self) -> Iterator[Params]:
        """Settings that show every branch of every choice, and the lowest and highest value of every number.

        As many as the values asked for at most, not their product: enough to validate the whole space by.
        """
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

    @cached_property
    def below(self) -> dict[int, list[tuple[int, int]]]:
        """Position of a choice -> for each branch, where in `parameters` everything below it starts and stops."""
        return spans(self.roots)

    # Experiment files

    def from_values(self, get: Callable[[str], Any]) -> Params | None:
        """The setting that an experiment file itself stands for; None when the file lies outside the space.

        `get(path)` gives the file's value or raises KeyError. How sections are matched: tuning/matching.py.
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


def _name(value: Any) -> str:
    return str(value.get("type", value) if isinstance(value, Mapping) else value)
