"""Optuna's samplers. What asks them: _optuna.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

from pydantic import Field, field_validator
from typing_extensions import override

from modelopt_cli.core.errors import did_you_mean
from modelopt_cli.core.extras import require
from modelopt_cli.tuning.samplers import Sampler

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.tuning.space.space import Space
    from modelopt_cli.tuning.trials.trial import Params, Trial

_SAMPLERS = ("BruteForceSampler", "GPSampler", "NSGAIIISampler", "NSGAIISampler", "RandomSampler", "TPESampler")
_OWN = {"CmaEsSampler": "cmaes", "GridSampler": "grid", "QMCSampler": "sobol", "PartialFixedSampler": "bayesian"}
"""Those whose state a history does not hold, or which take more than plain values -> what to use instead."""


@final
class Optuna(Sampler):
    """A sampler of Optuna (Akiba et al., KDD 2019) by the name of its class; extra: optuna.

    It is made anew for each suggestion and is given the history as Optuna's own trials: a parameter that does not count
    is none of a trial's. Generations of NSGAII and NSGAIII are cut from the completed trials in order of number. For
    who knows a sampler from there; it costs more the longer the history is.
    """

    extra: ClassVar[str] = "optuna"

    sampler: str = Field("TPESampler", description="The class in optuna.samplers.")
    options: dict[str, Any] = Field(default_factory=dict, description="Its own arguments, but for seed.")

    @field_validator("sampler")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in _OWN:
            raise ValueError(f"{name} cannot be made from a history alone; use the sampler '{_OWN[name]}' instead")
        if name not in _SAMPLERS:
            near = did_you_mean(name, _SAMPLERS)
            raise ValueError(f"unknown sampler of Optuna '{name}'.{near} Known: {', '.join(_SAMPLERS)}")
        return name

    @field_validator("options")
    @classmethod
    def _no_seed(cls, options: dict[str, Any]) -> dict[str, Any]:
        if "seed" in options:
            raise ValueError("seed is given; leave it out, since every suggestion's seed derives from the experiment's")
        return options

    @override
    def check(self) -> None:
        """Raises MissingExtraError without Optuna, UsageError for options that the sampler does not take."""
        require("optuna", "optuna")
        from modelopt_cli.tuning.samplers._optuna import build

        build(self.sampler, self.options, 0)

    @override
    def check_space(self, space: Space) -> None:
        """By asking for a first setting: which samplers need, say, a finite space is Optuna's own to tell."""
        import numpy as np

        self.suggest(space, [], np.random.default_rng(0), 1)

    def suggest(self, space: Space, trials: Sequence[Trial], rng: np.random.Generator, n: int) -> list[Params]:
        """`n` settings that Optuna's sampler gives and that are not in the history; see Sampler."""
        require("optuna", "optuna")
        from modelopt_cli.tuning.samplers._optuna import suggest

        return suggest(self.sampler, self.options, space, trials, rng, n)
