"""The suggestions of `bayesian`: by a Gaussian process, and by the Parzen estimators of `tpe`, in turn.

The two err in different ways, and each learns from what the other tried: trials with even numbers are the process's.
Of one objective all trials are where nothing but numbers is searched and no trial has failed or broken a constraint,
and beside others that are under way, since it alone knows what may come of these; in the estimators' turns its length
scales are held alike then, so that there are still two views of the same trials (measured: docs/measurements.md,
"Search with few trials", "Search with several workers"). Both models propose points of the cube that are snapped to
settings, so mixed and conditional spaces need no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from modelopt_cli.tuning.samplers._common.encoding import Encoding, encoded
from modelopt_cli.tuning.samplers._common.history import History
from modelopt_cli.tuning.samplers._common.neighbours import APART, best_first, climbed, near
from modelopt_cli.tuning.samplers._common.untried import suggest_by_model
from modelopt_cli.tuning.samplers._gp.acquisition import AcquisitionContext
from modelopt_cli.tuning.samplers._tpe import Estimators
from modelopt_cli.tuning.space.space import Choice, Space
from modelopt_cli.tuning.trials.trial import Params, Trial

Array = NDArray[np.float64]

_CANDIDATES = 1000  # random points of the cube
_NEIGHBOURS = 300  # of the best trials, and again in each round
_WIDTHS = (0.1, 0.03, 0.01, 0.003)  # of the rounds
_FINE_WIDTHS, _FINE = (0.001, 0.0003), 1e-5  # of more rounds where losses are exact; what is next to a trial then
_EXPLORED = 6  # every so many trials the process looks at a neglected value of a choice alone
_EXPLORED_FROM = 20  # that only after so many trials: of fewer it knows nothing of the value, and tries the corners

_RADIUS = 0.2  # of a niche, in each range
_NOTICEABLE = 0.01  # progress: of the way from the median to the best
_FEWEST = 4  # trials outside of a niche that there is something to learn from


def suggest(
    space: Space,
    trials: Sequence[Trial],
    rng: np.random.Generator,
    n: int,
    initial_points: int,
    patience: int | None,
) -> list[Params]:
    """`n` settings; see Sampler.suggest and Bayesian. Each counts as under way for the ones after it."""
    encoding = Encoding(space)

    def propose(history: History, suggested: Sequence[Params]) -> Iterator[Params]:
        turn = len(trials) + len(suggested)
        beside_others = bool(history.pending or suggested)
        plain = not len(encoding.sizes) and not (history.margins < 0).any()  # numbers, and each trial was feasible
        process_alone = history.objectives == 1 and (beside_others or plain)
        if turn % 2 == 0 or process_alone:
            explores = turn >= _EXPLORED_FROM and turn % _EXPLORED == 0
            branch = neglected(space, trials, rng) if explores else None
            return _by_process(encoding, history, suggested, rng, branch, alike=turn % 2 == 1)
        return _by_estimators(encoding, history, suggested, rng, patience)

    return suggest_by_model(propose, initial_points, encoding.priors, space, trials, rng, n)


def _by_process(
    encoding: Encoding,
    history: History,
    suggested: Sequence[Params],
    rng: np.random.Generator,
    branch: tuple[int, float] | None,
    alike: bool,
) -> Iterator[Params]:
    """Settings by descending merit, those that lie next to a trial last.

    `branch`: a choice's position and the code of the value that alone is looked at. `alike`: see AcquisitionContext.
    """
    context = AcquisitionContext(encoding, history, suggested, rng, alike)

    def snapped(points: Array) -> Array:
        if branch is not None:
            points[:, branch[0]] = branch[1]
        return encoding.snap(points)

    candidates = [rng.random((_CANDIDATES, encoding.space.dim)), near(context.leaders, 0.15, _NEIGHBOURS, rng)]
    first = encoding.priors.with_draws(np.concatenate(candidates), rng)
    widths = (*_WIDTHS, *_FINE_WIDTHS) if context.exact else _WIDTHS
    codes, merit = climbed(first, snapped, context.merit, widths, _NEIGHBOURS, rng, encoding.space)
    return map(encoding.space.decode, best_first(codes, merit, context.codes, _FINE if context.exact else APART))


def neglected(space: Space, trials: Sequence[Trial], rng: np.random.Generator) -> tuple[int, float] | None:
    """A choice that always counts, by chance, and the code of its value with the fewest trials; None: there is none.

    A good value found early hides what another one is worth at settings that nobody has tried yet.
    """
    choices = [
        (position, parameter)
        for position, parameter in enumerate(space.parameters)
        if isinstance(parameter, Choice) and parameter.condition is None and not parameter.ordered
    ]
    if not choices:
        return None
    position, parameter = choices[rng.integers(len(choices))]
    counts = np.bincount([parameter.index(trial.params[parameter.path]) for trial in trials], minlength=parameter.size)
    rare = np.flatnonzero(counts == counts.min())
    return position, (int(rng.choice(rare)) + 0.5) / parameter.size


def _by_estimators(
    encoding: Encoding,
    history: History,
    suggested: Sequence[Params],
    rng: np.random.Generator,
    patience: int | None,
) -> Iterator[Params]:
    """Settings by descending merit; after `patience` trials without progress those outside of the best niche first."""
    if history.objectives == 1 and patience is not None and stagnation(history.y) >= patience:
        elsewhere = outside_niche(encoding, history)
        if elsewhere is not None:
            niche, rest = elsewhere
            codes = Estimators(encoding, rest, suggested, rng, whole=history).promising_codes()
            yield from map(encoding.space.decode, codes[~niche.holds(codes)])
    yield from Estimators(encoding, history, suggested, rng).promising()


class Niche:
    """The settings with the categories of a centre; where there are no categories, those near it in every number.

    What a search that no longer gets better leaves out to find other modes, as if the best one were not there (Beasley,
    Bull & Martin 1993, "A sequential niche technique for multimodal function optimization", Evolutionary Computation
    1(2)).
    """

    def __init__(self, encoding: Encoding, centre: Array) -> None:
        """`centre` (dim,): a snapped code."""
        self._encoding = encoding
        self._centre = encoding.points(centre[None])

    def holds(self, codes: Array) -> NDArray[np.bool_]:
        """(M,) of snapped codes (M, dim)."""
        points = self._encoding.points(codes)
        if points.categories.shape[1]:
            return np.asarray((points.categories == self._centre.categories).all(axis=1))
        return np.asarray((np.abs(points.numbers - self._centre.numbers) < _RADIUS).all(axis=1))


def stagnation(y: Array) -> int:
    """How many targets (N,), in order, came after the first that is as good as the best, or hardly worse."""
    enough = y <= y.min() + _NOTICEABLE * (np.median(y) - y.min())
    return len(y) - 1 - int(np.argmax(enough))


def outside_niche(encoding: Encoding, history: History) -> tuple[Niche, History] | None:
    """The niche of the best trial, and the history outside of it; None: there is nothing to learn from."""
    codes = encoded(encoding.space, history.params)
    niche = Niche(encoding, codes[int(np.argmin(history.y))])
    outside = ~niche.holds(codes)
    rest = history.only(outside)
    return (niche, rest) if outside.sum() >= _FEWEST and rest.informative else None
