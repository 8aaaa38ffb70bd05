"""Bayesian optimization, the default search. Its machinery: _gp/, and the estimators of _tpe.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from pydantic import Field

from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial


@final
class Bayesian(Sampler):
    """Bayesian optimization by two models in turn: a Gaussian process, and Parzen estimators of good and other trials.

    The process knows conditions, keeps categories nearly independent, warps each number's axis, and suggests where the
    logarithm of the expected improvement is greatest (Snoek et al., NIPS 2012; Ament et al., NeurIPS 2023); the
    estimators are those of `tpe`, and look outside of the best mode when nothing gets better. Each of two or three
    objectives has a process (their hypervolume is to be improved), and so has each constraint, and failing. For one
    objective the process alone speaks where nothing but numbers is searched and nothing has failed yet, and while other
    trials are under way: it draws together what they may come out as, and looks for what improves on that (Snoek et al.
    2012, section 3.2). The one to begin with: its suggestions cost tenths of a second, and save trials.
    """

    initial_points: int = Field(8, ge=1, description="Trials before the models are used, the file's own included.")
    patience: int | None = Field(
        12,
        ge=1,
        description="Where choices are searched or trials failed, one trial at a time: trials without progress after "
        "which every second one looks elsewhere; null: never.",
    )

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """The `n` most promising settings that are not in the history; see Sampler."""
        from modelopt_cli.tuning.samplers._gp.suggestion import suggest

        return suggest(space, trials, rng, n, self.initial_points, self.patience)
