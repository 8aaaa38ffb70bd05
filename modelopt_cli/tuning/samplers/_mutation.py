"""A setting with one parameter changed, and the order in which trials are fit to be changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from modelopt_cli.tuning.samplers._features import ordered
from modelopt_cli.tuning.samplers._history import losses_of
from modelopt_cli.tuning.space.parameters import Choice
from modelopt_cli.tuning.space.space import Parameter, Space
from modelopt_cli.tuning.trials.ranking import crowding, fronts
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
    anew = {child for span in space.below.get(chosen, ()) for child in range(*span)}

    def pick(position: int, parameter: Parameter) -> Any:
        if position in anew:
            return parameter.decode(float(rng.random()))
        value = copy.deepcopy(params[parameter.path])
        return _other(parameter, value, rng) if position == chosen else value

    return space.walk(pick)


def _other(parameter: Parameter, value: Any, rng: np.random.Generator) -> Any:
    """Another value: of categories any, of numbers and ordered values one that lies a normal step away."""
    if isinstance(parameter, Choice) and not ordered(parameter):
        step = int(rng.integers(1, parameter.size))
        return parameter.value((parameter.index(value) + step) % parameter.size)
    code, own = parameter.encode(value), parameter.key(value)
    width = float(np.exp(rng.uniform(*np.log(_WIDTHS))))
    for _ in range(_TRIES):
        found = parameter.decode(_reflected(code + width * float(rng.standard_normal())))
        if parameter.key(found) != own:
            return found
        width = min(2.0 * width, 1.0)
    return value


def _reflected(code: float) -> float:
    """Into [0, 1], mirrored at its ends."""
    code = abs(code) % 2.0
    return 2.0 - code if code > 1.0 else code


def members(trials: Sequence[Trial], most: int) -> list[tuple[Trial, tuple[float, ...]]]:
    """The newest `most` trials that ended with losses, the oldest first."""
    found: list[tuple[Trial, tuple[float, ...]]] = []
    for trial in reversed(trials):
        losses = losses_of(trial) if trial.state.finished else None
        if losses is not None:
            found.append((trial, losses))
        if len(found) == most:
            break
    return found[::-1]


def fitness(population: Sequence[tuple[Trial, tuple[float, ...]]]) -> list[tuple[float, int, float]]:
    """A key for each member, smaller is fitter: violation, front, and the more alone in it the better (NSGA-II)."""
    points = [losses for _, losses in population]
    keys: list[tuple[float, int, float]] = [(0.0, 0, 0.0)] * len(points)
    for rank, front in enumerate(fronts(points)):
        for index, alone in zip(front, crowding([points[i] for i in front]), strict=True):
            keys[index] = (population[index][0].violation, rank, -alone)
    return keys


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
