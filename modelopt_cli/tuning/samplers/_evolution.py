"""Mutants for regularised evolution: the best of a few young trials, with one parameter changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from modelopt_cli.tuning.samplers._common.history import fitness, losses_of
from modelopt_cli.tuning.space.parameters import Choice
from modelopt_cli.tuning.space.space import Parameter, Space
from modelopt_cli.tuning.trials.ranking import Losses
from modelopt_cli.tuning.trials.trial import Params, Trial

_WIDTHS = (0.01, 0.5)  # of a number's axis: between these, evenly in the logarithm, lies the deviation of its step
_TRIES = 50  # until a step changes the value


def mutated(space: Space, params: Params, rng: np.random.Generator) -> Params:
    """`params` with another value of one of the parameters that count; what lies under a changed choice is drawn anew.

    The very setting when none of them has another value.
    """
    open_ = [position for position in space.positions(params) if space.parameters[position].size > 1]
    if not open_:
        return copy.deepcopy(params)
    chosen = open_[rng.integers(len(open_))]
    redrawn = {child for span in space.below.get(chosen, ()) for child in range(*span)}

    def pick(position: int, parameter: Parameter) -> Any:
        if position in redrawn:
            return parameter.decode(float(rng.random()))
        value = copy.deepcopy(params[parameter.path])
        return _other(parameter, value, rng) if position == chosen else value

    return space.walk(pick)


def _other(parameter: Parameter, value: Any, rng: np.random.Generator) -> Any:
    """Another value: of categories any, of numbers and ordered values one that lies a normal step away."""
    if isinstance(parameter, Choice) and not parameter.ordered:
        step = int(rng.integers(1, parameter.size))
        return parameter.value((parameter.index(value) + step) % parameter.size)
    code, own = parameter.encode(value), parameter.key(value)
    width = float(np.exp(rng.uniform(*np.log(_WIDTHS))))
    for _ in range(_TRIES):
        other = parameter.decode(reflected(code + width * float(rng.standard_normal())))
        if parameter.key(other) != own:
            return other
        width = min(2.0 * width, 1.0)
    return value


def reflected(code: float) -> float:
    """Into [0, 1], mirrored at its ends."""
    code = abs(code) % 2.0
    return 2.0 - code if code > 1.0 else code


def members(trials: Sequence[Trial], most: int) -> list[tuple[Trial, Losses]]:
    """The newest `most` trials that ended with losses, the oldest first."""
    newest: list[tuple[Trial, Losses]] = []
    for trial in reversed(trials):
        losses = losses_of(trial) if trial.state.finished else None
        if losses is not None:
            newest.append((trial, losses))
        if len(newest) == most:
            break
    return newest[::-1]


def children(
    space: Space, trials: Sequence[Trial], population: int, tournament: int, rng: np.random.Generator
) -> Iterator[Params]:
    """Mutants of tournament winners, without end; none while no trial has ended."""
    living = members(trials, population)
    keys = fitness(living)
    while living:
        drawn = rng.integers(len(living), size=tournament)  # with replacement, as in the paper
        winner = min(drawn.tolist(), key=keys.__getitem__)
        yield mutated(space, living[winner][0].params, rng)
