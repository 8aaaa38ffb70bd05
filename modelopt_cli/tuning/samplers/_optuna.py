"""The suggestions of `optuna`: a history as Optuna's own trials, and one of its samplers asked for the next.

It is asked parameter by parameter (define-by-run), so that conditions hold.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.tuning.samplers._common.history import losses_of
from modelopt_cli.tuning.samplers._common.quiet_optuna import quietly
from modelopt_cli.tuning.samplers._common.untried import Untried
from modelopt_cli.tuning.space.space import Choice, Float, Integer, Parameter, Space
from modelopt_cli.tuning.trials.divergence import drawn_back
from modelopt_cli.tuning.trials.trial import Params, Trial

_ATTEMPTS = 10  # asks for a setting that has not been tried, before one is drawn
_MOST_VIOLATION = 1e12
_MOST_LISTED = 2**40


def build(name: str, options: Mapping[str, Any], seed: int) -> BaseSampler:
    """The sampler. Raises UsageError for options that it does not take."""
    kind = getattr(optuna.samplers, name)
    allowed = [key for key in inspect.signature(kind.__init__).parameters if key not in ("self", "seed")]
    for key in options:
        if key not in allowed:
            near = did_you_mean(key, allowed)
            raise UsageError(f"{name} takes no option '{key}'.{near} It takes: {', '.join(allowed) or 'none'}")
    with quietly():
        try:
            sampler: BaseSampler = kind(**options, seed=seed)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name} cannot be made with {dict(options)}: {error}; change tuning.sampler") from None
    return sampler


def suggest(
    name: str,
    options: Mapping[str, Any],
    space: Space,
    trials: Sequence[Trial],
    rng: np.random.Generator,
    n: int,
) -> list[Params]:
    """`n` settings; see Sampler.suggest. Each counts as running for the ones after it."""
    new, axes = Untried(space, trials), Axes(space)
    sampler = build(name, options, int(rng.integers(2**31)))
    with quietly():
        study = _study(sampler, axes, trials)
        try:
            suggested = new.take((axes.ask(study) for _ in range(_ATTEMPTS * n) if not new.exhausted), n)
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"{name} cannot search this space: {error}; use another sampler") from None
    return suggested + new.fill(iter(lambda: space.sample(rng), None), n - len(suggested), rng)


def _study(sampler: BaseSampler, axes: Axes, trials: Sequence[Trial]) -> optuna.Study:
    """A study in memory that holds the history."""
    objectives = max((len(losses) for trial in trials if (losses := losses_of(trial))), default=1)
    constrained = any(trial.violation > 0 for trial in trials)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)
    completed = 0
    for trial, values in zip(trials, completed_losses(trials), strict=True):
        frozen = axes.frozen(trial, values, constrained)
        if isinstance(sampler, optuna.samplers.BaseGASampler) and frozen.state is TrialState.COMPLETE:
            assert sampler.population_size is not None
            frozen.system_attrs[sampler._get_generation_key()] = completed // sampler.population_size
            completed += 1
        study.add_trial(frozen)
    return study


def completed_losses(trials: Sequence[Trial]) -> list[Sequence[float] | None]:
    """Of each trial the losses; None: it has not ended, or failed. What diverged is as bad as the worst of the others.

    Optuna leaves failed trials out, so that it would learn nothing of where they lie.
    """
    ended = [losses_of(trial) if trial.state.finished else None for trial in trials]
    known = [losses for losses in ended if losses is not None]
    if not known:
        return [None] * len(trials)
    table = np.array(known, dtype=float)
    several = table.shape[1] > 1  # what is bad in one objective may be best in another
    rows = iter(np.stack([drawn_back(column, certain=several) for column in table.T], axis=1).tolist())
    return [None if losses is None else next(rows) for losses in ended]


class Axes:
    """The parameters of a space as Optuna's distributions, each under a name of its own."""

    def __init__(self, space: Space) -> None:
        self.space = space
        often = Counter(parameter.path for parameter in space.parameters)
        self.names = [
            parameter.path if often[parameter.path] == 1 else f"{parameter.path}#{position}"
            for position, parameter in enumerate(space.parameters)
        ]
        self.distributions = [_distribution(parameter) for parameter in space.parameters]

    def ask(self, study: optuna.Study) -> Params:
        """What the study's sampler suggests; the trial stays a running one."""
        trial = study.ask()

        def pick(position: int, parameter: Parameter) -> Any:
            return _ours(parameter, _suggested(trial, self.names[position], self.distributions[position]))

        return self.space.walk(pick)

    def frozen(self, trial: Trial, losses: Sequence[float] | None, constrained: bool) -> FrozenTrial:
        """The trial as Optuna's own: completed with `losses`, failed, or running (which samplers stay away from)."""
        positions = self.space.positions(trial.params)
        ended = TrialState.COMPLETE if losses is not None else TrialState.FAIL
        violation = min(trial.violation, _MOST_VIOLATION)
        return optuna.trial.create_trial(
            state=ended if trial.state.finished else TrialState.RUNNING,
            params={self.names[p]: self._theirs(p, trial.params) for p in positions},
            distributions={self.names[p]: self.distributions[p] for p in positions},
            values=losses,
            constraints={"violation": violation} if constrained and losses is not None else None,
        )

    def _theirs(self, position: int, params: Params) -> Any:
        parameter = self.space.parameters[position]
        return _theirs(parameter, params[parameter.path])


def _distribution(parameter: Parameter) -> BaseDistribution:
    """Numbers as they are; a float with a step, and what lists its values, by index."""
    if isinstance(parameter, Float) and not np.isfinite(parameter.size):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if _by_code(parameter):
        return FloatDistribution(0.0, 1.0)
    if isinstance(parameter, Integer):
        step = parameter.step or 1
        return IntDistribution(parameter.low, parameter.low + (parameter.size - 1) * step, parameter.log, step)
    if isinstance(parameter, Choice):
        return CategoricalDistribution(range(parameter.size))
    return IntDistribution(0, int(parameter.size) - 1)


def _by_code(parameter: Parameter) -> bool:
    """Whether it has more whole numbers than Optuna, which reckons in int64 and floats, can list."""
    return isinstance(parameter, Integer) and parameter.size > _MOST_LISTED


def _suggested(trial: optuna.Trial, name: str, axis: BaseDistribution) -> Any:
    if isinstance(axis, FloatDistribution):
        return trial.suggest_float(name, axis.low, axis.high, log=axis.log)
    if isinstance(axis, IntDistribution):
        return trial.suggest_int(name, axis.low, axis.high, step=axis.step, log=axis.log)
    assert isinstance(axis, CategoricalDistribution)
    return trial.suggest_categorical(name, axis.choices)


def _theirs(parameter: Parameter, value: Any) -> Any:
    if _by_code(parameter):
        return parameter.encode(value)
    if isinstance(parameter, Integer) or (isinstance(parameter, Float) and not np.isfinite(parameter.size)):
        return value
    return int(parameter.encode(value) * parameter.size)  # the code is the middle of the value's equal share


def _ours(parameter: Parameter, value: Any) -> Any:
    if _by_code(parameter):
        return parameter.decode(float(value))
    if isinstance(parameter, Float) and not np.isfinite(parameter.size):
        return min(max(float(value), parameter.low), parameter.high)
    if isinstance(parameter, Integer):
        return int(value)
    return parameter.decode((int(value) + 0.5) / float(parameter.size))
