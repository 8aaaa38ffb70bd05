"""A training as a run over growing parts of the train split: a step is the least part, a report is a whole training.

Each size is trained from the start, as it would be alone, and the last one is the plain training on everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from modelopt_cli.experiment.expected_metrics import SAMPLES
from modelopt_cli.tuning.objective import Run, StepReport
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment


SizedState = tuple[int, dict[str, float], list[str]]
"""(step, metrics, warnings) of the last size. States of earlier versions have no warnings."""


class SizedRun(Run):
    """Opens a training for each of the `sizes` (steps, ascending) that it is asked for, for no other, and runs it."""

    leaps = True

    def __init__(
        self,
        sizes: Sequence[int],
        whole: Callable[[], Run],
        part: Callable[[int], Run],
        samples: Callable[[int], int],
        state: SizedState | tuple[int, dict[str, float]] | None = None,
    ) -> None:
        """`whole` opens the training of the last size, `part` of another. `samples`: how many a size has."""
        self._sizes, self._whole, self._part, self._samples = sizes, whole, part, samples
        self.trained: Run | None = None  # the training of the last size, once it has ended
        self.total = sizes[-1]
        self.step: int = state[0] if state else 0
        self._metrics: Mapping[str, float] = state[1] if state else {}
        self._warnings: list[str] = list(state[2]) if state and len(state) > 2 else []  # older states have none

    def advance(self, until: int) -> list[StepReport]:
        """Train at the first size that reaches `until`, unless it has been."""
        if self.step >= min(until, self.total):
            return []
        size = next((size for size in self._sizes if size >= until), self.total)
        run = self._whole() if size == self.total else self._part(size)
        try:
            while run.step < run.total:
                run.advance(run.total)
            self._metrics = {**run.metrics(), SAMPLES: float(self._samples(size))}
            self._warnings = list(run.warnings)
        finally:
            run.close()
        self.step, self.trained = size, run if size == self.total else None
        return [(size, self._metrics)]

    def metrics(self) -> Mapping[str, float]:
        """Those of the last size."""
        return self._metrics

    @property
    def warnings(self) -> list[str]:
        """Those of the last size."""
        return list(self._warnings)

    def state(self) -> SizedState:
        """What is done need not be done again; a model has nothing to hand on to the next size."""
        return self.step, dict(self._metrics), self.warnings


def fitting_batches(experiment: Experiment, prepared: Prepared, step: int | None) -> Experiment:
    """The experiment with batches no larger than a part of the train split, where they are not above all of it."""
    if step is None or experiment.training is None or experiment.require_model().framework != "torch":
        return experiment
    size, samples = experiment.training.batch_size, len(prepared.train)
    if size <= samples or size > data_cache.training_samples(experiment):
        return experiment
    return experiment.with_values({"training.batch_size": samples})
