"""The tree-structured Parzen estimator, over all parameters jointly. Its machinery: _tpe.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Tpe(Sampler):
    """Multivariate tree-structured Parzen estimator (Bergstra et al., NIPS 2011; kernels: BOHB, Falkner et al., 2018).

    Suggests what is likely among the good trials and rare among the others. Of several objectives the first fronts are
    good (Ozaki et al., GECCO 2020). For many categories, and where a suggestion of `bayesian` costs too much.
    """

    initial_points: int = Field(8, ge=1, description="Trials before the estimators are used, the file's own included.")
    good: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.15, description="Share of the trials that count as good.")
    most_good: int = Field(25, ge=1, description="At most so many trials count as good.")

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """The `n` most promising settings that are not in the history; see Sampler."""
        from modelopt_cli.tuning.samplers._tpe import suggest

        return suggest(space, trials, rng, n, self.initial_points, self.good, self.most_good)
