"""The parameters of a space as Optuna's distributions, and their values as Optuna holds them.

A categorical distribution holds texts, numbers, truth values and null. Where a parameter has a value that is none of
these (a list, a section), or two that Python calls equal (1 and true), that value stands as its JSON text; where this
text is another of the parameter's values already, all of the parameter's values stand as JSON.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)

from modelopt_cli.core.references import without_values
from modelopt_cli.tuning.space.space import Choice, Float, Integer, Ordinal, Parameter, Space
from modelopt_cli.tuning.trials.trial import Params

_EXACT = 2**53
"""Whole numbers up to here are exact in Optuna's storages, which keep them as floats."""


class Columns:
    """Names and distributions of a space's parameters.

    A parameter goes by its path. Branches of a choice may hold different ones of equal path; where Optuna could not
    take them for one, they go by the path and the branch: `model.size [model.type = cnn]`.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._distributions = [_distribution(parameter) for parameter in space.parameters]
        self._names = _names(space, self._distributions)

    def of(self, params: Params) -> tuple[dict[str, Any], dict[str, BaseDistribution], dict[str, Any]]:
        """(values, distributions) of a setting by name, and what Optuna cannot hold: whole numbers above 2**53."""
        values: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        beyond: dict[str, Any] = {}
        for position in self._space.positions(params):
            parameter, name = self._space.parameters[position], self._names[position]
            value, distribution = params[parameter.path], self._distributions[position]
            if distribution is None:
                beyond[name] = value
                continue
            if isinstance(distribution, CategoricalDistribution):
                assert isinstance(parameter, Choice | Ordinal)
                value = distribution.choices[parameter.index(value)]
            values[name], distributions[name] = value, distribution
        return values, distributions, beyond


def _distribution(parameter: Parameter) -> BaseDistribution | None:
    """None: it has whole numbers that Optuna cannot tell apart."""
    if isinstance(parameter, Float):
        step = parameter.step if parameter.low < parameter.high else None
        high = parameter.high if step is None else parameter.decode(1.0)
        return FloatDistribution(parameter.low, high, log=parameter.log, step=step if parameter.low < high else None)
    if isinstance(parameter, Integer):
        if max(abs(parameter.low), abs(parameter.high)) > _EXACT:
            return None
        step = parameter.step or 1
        return IntDistribution(parameter.low, parameter.low + (parameter.size - 1) * step, parameter.log, step)
    assert isinstance(parameter, Choice | Ordinal)
    return CategoricalDistribution(categories(parameter.values))


def categories(values: Sequence[Any]) -> list[Any]:
    """The values as a categorical distribution holds them; see the module's docstring."""
    values = without_values(list(values))
    plain = [value for value in values if value is None or isinstance(value, bool | int | float | str)]
    twice = {value for value, count in Counter(plain).items() if count > 1}  # 1 equals True
    held = [value if not isinstance(value, dict | list) and value not in twice else as_text(value) for value in values]
    return held if len(set(held)) == len(held) else [as_text(value) for value in values]


def as_text(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False)


def _names(space: Space, distributions: Sequence[BaseDistribution | None]) -> list[str]:
    paths = [parameter.path for parameter in space.parameters]
    first = {path: distributions[paths.index(path)] for path in paths}
    apart = {
        path for path, distribution in zip(paths, distributions, strict=True) if not _alike(first[path], distribution)
    }
    whens = [row["when"] for row in space.describe()]
    names = [f"{path} [{when}]" if path in apart else path for path, when in zip(paths, whens, strict=True)]
    often = Counter(name for name, path in zip(names, paths, strict=True) if path in apart)
    return [f"{name} #{position}" if often[name] > 1 else name for position, name in enumerate(names)]


def _alike(a: BaseDistribution | None, b: BaseDistribution | None) -> bool:
    """Whether a study of Optuna's takes both for the same parameter."""
    if a is None or b is None:
        return a is b
    try:
        check_distribution_compatibility(a, b)
    except ValueError:
        return False
    return True
