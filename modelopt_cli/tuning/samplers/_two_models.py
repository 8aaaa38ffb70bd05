"""Suggestions by two models of the same trials in turn: a Gaussian process, and a pair of Parzen estimators.

They err in different ways, and each learns from what the other tried. Which one speaks depends on the number of the
trial alone. Both propose points of the cube that are snapped to settings, so mixed and conditional spaces need no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._feasibility import Feasibility
from modelopt_cli.tuning.samplers._features import ordered
from modelopt_cli.tuning.samplers._fronts import ranked
from modelopt_cli.tuning.samplers._history import History, read
from modelopt_cli.tuning.samplers._neighbours import best_first, climbed, near
from modelopt_cli.tuning.samplers._niche import Niche, beyond, standstill
from modelopt_cli.tuning.samplers._outlook import Outlook
from modelopt_cli.tuning.samplers._parzen import Parzen
from modelopt_cli.tuning.samplers._settings import Settings
from modelopt_cli.tuning.samplers._untried import Untried, design, endless, sequence_seed
from modelopt_cli.tuning.space.space import Choice, Space
from modelopt_cli.tuning.trials.trial import Params, Trial

Array = NDArray[np.float64]
Model = Literal["process", "parzen"]

_CANDIDATES = 1000  # random points of the cube
_NEIGHBOURS = 300  # of the best trials, and again in each round
_WIDTHS = (0.1, 0.03, 0.01, 0.003)  # of the rounds
_DRAWS = 256  # points drawn from the estimator of good settings
_RULED_DRAWS = 1024  # where some of them will break a rule
_EXPLORED = 6  # every so many trials a process looks at a neglected value of a choice alone
_OTHERS = 1000  # settings that the estimator of those that are not good has at most


@dataclass(frozen=True)
class Plan:
    """`models`: in turn, trial by trial. `good`: share of trials that count as good, `most_good` of them at most.

    `patience`: trials without noticeable progress after which the estimators leave the best mode out (None: never).
    """

    models: tuple[Model, ...]
    initial_points: int
    good: float = 0.15
    most_good: int = 25
    patience: int | None = None


def suggest(plan: Plan, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
    """`n` settings; see Sampler.suggest. Each counts as under way for the ones after it."""
    new = Untried(space, trials)
    seed = sequence_seed(trials, rng)
    settings = Settings(space)
    start = max(min(plan.initial_points - len(trials), n), 0)
    stop = len(trials) + start
    first = design("sobol", space, seed, len(trials), stop, plan.initial_points, settings.beliefs)
    found = new.take(first, start)
    while len(found) < n:
        history = read(trials, rng)
        if not history.informative:
            break
        best = new.take(_promising(plan, settings, trials, history, found, rng), 1)
        if not best:
            break
        found += best
    draws = endless("sobol", space, seed, len(trials) + len(found))
    return found + new.fill(draws, n - len(found), rng)


def _promising(
    plan: Plan,
    settings: Settings,
    trials: Sequence[Trial],
    history: History,
    found: Sequence[Params],
    rng: np.random.Generator,
) -> Iterator[Params]:
    """Settings by descending merit, as the model whose turn it is sees them."""
    turn = len(trials) + len(found)
    if plan.models[turn % len(plan.models)] == "process":
        branch = _neglected(settings.space, trials, rng) if turn % _EXPLORED == 0 else None
        yield from _Process(settings, history, found, rng, branch).promising()
        return
    if history.objectives == 1 and plan.patience is not None and standstill(history.y) >= plan.patience:
        elsewhere = beyond(settings, history)
        if elsewhere is not None:
            niche, rest = elsewhere
            yield from _Parzen(plan, settings, rest, found, rng).promising(niche)
    yield from _Parzen(plan, settings, history, found, rng).promising()


class _Parzen:
    """Draws from an estimator of good settings, the best first by how much rarer they are among the others."""

    def __init__(
        self, plan: Plan, settings: Settings, history: History, also: Sequence[Params], rng: np.random.Generator
    ) -> None:
        self._settings, self._rng = settings, rng
        space = settings.space
        codes = np.stack([space.encode(params) for params in [*history.params, *history.pending, *also]])
        self._trials = len(history.y)
        order = np.argsort(history.y if history.objectives == 1 else ranked(history.losses), kind="stable")
        count = min(max(int(np.ceil(plan.good * len(order))), 2), plan.most_good)
        under_way = np.arange(len(order), len(codes))  # nobody else should go there just now
        self._good = self._estimator(codes[order[:count]])
        rest = np.concatenate([order[count:], under_way]).astype(int)
        if len(rest) > _OTHERS:  # what is rare among some of them is rare among all
            rest = rng.choice(rest, size=_OTHERS, replace=False)
        self._others = self._estimator(codes[rest])
        self._feasibility = Feasibility(settings, codes[: len(order)], history.margins, rng)

    def _estimator(self, codes: Array) -> Parzen:
        settings = self._settings
        return Parzen(settings.inputs(codes), settings.absent(codes), settings.sizes, np.ones(len(codes)))

    def promising(self, avoided: Niche | None = None) -> Iterator[Params]:
        """Settings by descending merit, none of them in the niche to be `avoided`."""
        drawn = self._good.sample(self._rng, _RULED_DRAWS if self._settings.space.rules else _DRAWS)
        points = self._settings.beliefs.with_draws(self._settings.codes(drawn), self._rng)
        codes = self._settings.snap(points)
        if self._settings.space.rules:
            codes = codes[self._settings.space.kept(codes)]
            if not len(codes):
                return
        inputs, absent = self._settings.inputs(codes), self._settings.absent(codes)
        merit = self._good.log_density(inputs, absent) - self._others.log_density(inputs, absent)
        merit = self._settings.beliefs.weighed(merit + self._feasibility.log_merit(codes), codes, self._trials)
        codes = codes[np.argsort(-merit, kind="stable")]
        yield from map(self._settings.space.decode, codes if avoided is None else codes[~avoided.holds(codes)])


class _Process:
    """Processes, and the search for the points where they expect most improvement."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        also: Sequence[Params],
        rng: np.random.Generator,
        branch: tuple[int, float] | None = None,
    ) -> None:
        """`branch`: a choice's position and the code of the value that alone is looked at."""
        self._settings, self._rng, self._branch = settings, rng, branch
        self._outlook = Outlook(settings, history, also, rng)

    def promising(self) -> Iterator[Params]:
        """Settings by descending merit, those that lie next to a trial last."""
        codes, merit = self._climb()
        return map(self._settings.space.decode, best_first(codes, merit, self._outlook.codes))

    def _climb(self) -> tuple[Array, Array]:
        """Snapped codes (M, dim) and their merit (M,)."""
        leaders = self._outlook.leaders
        points = [self._rng.random((_CANDIDATES, leaders.shape[1])), near(leaders, 0.15, _NEIGHBOURS, self._rng)]
        first = self._settings.beliefs.with_draws(np.concatenate(points), self._rng)
        return climbed(first, self._snap, self._outlook.merit, _WIDTHS, _NEIGHBOURS, self._rng, self._settings.space)

    def _snap(self, points: Array) -> Array:
        if self._branch is not None:
            points[:, self._branch[0]] = self._branch[1]
        return self._settings.snap(points)


def _neglected(space: Space, trials: Sequence[Trial], rng: np.random.Generator) -> tuple[int, float] | None:
    """A choice that always counts, by chance, and the code of its value with the fewest trials; None: there is none.

    A good value found early hides what another one is worth at settings that nobody has tried yet.
    """
    choices = [
        (position, parameter)
        for position, parameter in enumerate(space.parameters)
        if isinstance(parameter, Choice) and parameter.condition is None and not ordered(parameter)
    ]
    if not choices:
        return None
    position, parameter = choices[rng.integers(len(choices))]
    counts = np.bincount([parameter.index(trial.params[parameter.path]) for trial in trials], minlength=parameter.size)
    rare = np.flatnonzero(counts == counts.min())
    return position, (int(rng.choice(rare)) + 0.5) / parameter.size
