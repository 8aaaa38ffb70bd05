"""A suggestion that is new: the sampler's, and where it repeats itself, random or listed settings not yet tried.

Where settings may be repeated, one that was tried may be worth more than a new one.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from modelopt_cli.core.seeds import derive

if TYPE_CHECKING:
    from modelopt_cli.tuning.study.study import Study
    from modelopt_cli.tuning.trials.trial import Params

_ATTEMPTS = 3  # asks of the sampler before others are tried
_DRAWS = 200  # random settings before a finite space is searched point by point
_MOST_POINTS = 1_000_000


class Exhausted(LookupError):  # noqa: N818  (an end, not an error)
    """Every setting of the space has been tried (or the sampler has no more)."""


def suggest(study: Study) -> Params:
    """The sampler's suggestion for the next trial. Raises Exhausted.

    The generator is seeded by (study's seed, number of the trial), so that the suggestion depends on nothing else.
    """
    import numpy as np

    number, trials = len(study.trials), study.trials
    if not study.sampler.exact:  # a list is tried from its beginning, whatever is known of it
        trials = (*study.knowledge.trials, *trials)
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng(derive(study.seed, "ask", number, attempt))
        found = study.sampler.suggest(study.space, trials, rng, 1)
        if not found:
            break
        if study.space.broken(found[0]) is not None:
            continue
        if study.repeats:
            return _again(study, found[0]) or found[0]
        if not study.seen(found[0]):
            return found[0]
    if study.sampler.exact:
        raise Exhausted(f"the {study.sampler.name()} has been tried completely")
    rng = np.random.default_rng(derive(study.seed, "draw", number))
    draws = (study.space.sample(rng) for _ in range(_DRAWS))
    fresh = next((params for params in draws if study.repeats or not study.seen(params)), None)
    fresh = fresh if fresh is not None else _first_left(study)
    if fresh is None:
        raise Exhausted(f"all {study.space.size} settings of the space have been tried")
    return (_again(study, fresh) or fresh) if study.repeats else fresh  # every setting was tried, so which one again?


def _again(study: Study, proposal: Params) -> Params | None:
    """A setting to be tried once more in place of the proposal."""
    beliefs = None if study.sampler.exact else study.beliefs
    under_way = [trial.params for trial in study.trials if not trial.state.finished]
    return None if beliefs is None else beliefs.again(proposal, under_way)


def _first_left(study: Study) -> Params | None:
    """The first setting of a finite space that was not tried."""
    if math.isinf(study.space.size):
        return None
    points = itertools.islice(study.space.every(), _MOST_POINTS)
    return next((params for params in points if not study.seen(params)), None)
