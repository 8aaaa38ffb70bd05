"""What a copy's settings are: its parent's, some of them perturbed or drawn anew (Jaderberg et al. 2017, 4.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelopt_cli.tuning.space.parameters import Choice, Float, Integer, Ordinal, Parameter, is_under

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params

_CHANGES = {"": True, "model": False, "data": False, "data.augment": True, "seed": False, "training.epochs": False}
"""Path -> whether it, and what is below it, may change while a model is trained; the longest one counts."""


_ATTEMPTS = 100  # until a copy keeps the rules


def changing(space: Space, perturb: Sequence[str] | None) -> set[int]:
    """Positions of the parameters that a copy may change: numbers and ordered values under `perturb`.

    None: where the shape of a model's state, and what it was trained on, do not depend on them.
    """
    return {
        position
        for position, parameter in enumerate(space.parameters)
        if parameter.size > 1 and _ordered(parameter) and _named(parameter.path, perturb)
    }


def _ordered(parameter: Parameter) -> bool:
    """Numbers, also those of a plain list, and ordered values."""
    if isinstance(parameter, Choice):
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in parameter.values)
    return True


def _named(path: str, perturb: Sequence[str] | None) -> bool:
    if perturb is not None:
        return any(is_under(path, name) for name in perturb)
    above = [name for name in _CHANGES if not name or is_under(path, name)]
    return _CHANGES[max(above, key=len)]


def explored(
    space: Space,
    params: Params,
    positions: set[int],
    factors: Sequence[float],
    resample: float,
    rng: np.random.Generator,
) -> Params:
    """`params` with each parameter at `positions` perturbed, or with probability `resample` drawn from its range.

    What breaks a rule is drawn again; a copy that finds nothing else is as its parent.
    """

    def pick(position: int, parameter: Parameter) -> Any:
        value = params[parameter.path]
        if position not in positions:
            return value
        anew, chosen = rng.random(), rng.random()
        return parameter.decode(chosen) if anew < resample else _perturbed(parameter, value, factors, chosen)

    for _ in range(_ATTEMPTS):
        copy = space.walk(pick)
        if space.broken(copy) is None:
            return copy
    return dict(params)


def _perturbed(parameter: Parameter, value: Any, factors: Sequence[float], chosen: float) -> Any:
    """`chosen`: a random number in [0, 1), of which the change is made."""
    if isinstance(parameter, Float | Integer):
        return multiplied(parameter, value, factors[int(chosen * len(factors))])
    assert isinstance(parameter, Choice | Ordinal)
    ordered = sorted(parameter.values) if isinstance(parameter, Choice) else list(parameter.values)
    index = ordered.index(parameter.coerce(value))
    near = [ordered[neighbour] for neighbour in (index - 1, index + 1) if 0 <= neighbour < len(ordered)]
    return parameter.coerce(near[int(chosen * len(near))])


def multiplied(parameter: Float | Integer, value: float, factor: float) -> float:
    """`value` times `factor`, within the range; on a lattice the nearest value of it, and one step away at least."""
    wanted = min(max(value * factor, parameter.low), parameter.high)
    if isinstance(parameter, Float) and parameter.step is None:
        return float(wanted)
    every = parameter.uncounted()
    step = parameter.step or 1
    before = round((value - parameter.low) / step)
    after = round((wanted - parameter.low) / step)
    if after == before and wanted != value:
        after += 1 if wanted > value else -1
    multiple: float = every.grid_value(min(max(after, 0), int(parameter.size) - 1))
    return multiple
