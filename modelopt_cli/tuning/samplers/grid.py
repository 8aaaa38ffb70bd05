"""Every setting of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Grid(Sampler):
    """Cartesian product of all values, in the file's order, the last parameter changing fastest; then it ends.

    Conditions are honoured: a branch of a choice is crossed with its own parameters only. A continuous float needs a
    `step` or a `count` (SpaceError otherwise). For a few parameters with few values, every one of which is to be seen.
    """

    exact: ClassVar[bool] = True

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """The next `n` points that are not in the history; see Sampler."""
        space.grid()  # raises when it cannot be listed
        given = sum(trial.origin == "sampler" for trial in trials)
        start = given if _are_first_points(space, trials, given) else 0
        tried = {space.canonical(trial.params) for trial in (trials if start == 0 else ())}
        points = map(space.grid_point, range(start, int(space.grid_size)))
        kept = (params for params in points if space.broken(params) is None)
        return list(islice((params for params in kept if space.canonical(params) not in tried), n))


def _are_first_points(space: Space, trials: Sequence[Trial], given: int) -> bool:
    """Whether the history is the grid's first points and no more, as it is in a search by grid alone.

    The ends are compared only: a long grid is not to be compared anew for each point.
    """
    if not trials or given != len(trials) or given > space.grid_size:
        return False
    ends = [(0, trials[0]), (given // 2, trials[given // 2]), (given - 1, trials[-1])]
    return all(space.canonical(space.grid_point(index)) == space.canonical(trial.params) for index, trial in ends)
