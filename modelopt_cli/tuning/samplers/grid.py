"""Every setting of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space import Space
    from modelopt_cli.tuning.trial import Params, Trial


@final
class Grid(Sampler):
    """Cartesian product of all values, in the file's order, the last parameter changing fastest; then it ends.

    Conditions are honoured: a branch of a choice is crossed with its own parameters only. A continuous float needs a
    `step` or a `count` (SpaceError otherwise).
    """

    exact: ClassVar[bool] = True

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """The next `n` points that are not in the history; see Sampler."""
        tried = {space.canonical(trial.params) for trial in trials}
        return list(islice((params for params in space.grid() if space.canonical(params) not in tried), n))
