"""One fit of a scikit-learn estimator as a run of a single step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from modelopt_cli.results.details import EarlyStopping, TrainingDetails
from modelopt_cli.tuning.objective import StepReport
from modelopt_cli.workflows.runs.base import RestorableRun, checkpoint_of
from modelopt_cli.workflows.shared import data_cache

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared
    from modelopt_cli.experiment.experiment import Experiment
    from modelopt_cli.models.files.checkpoints import Checkpoint
    from modelopt_cli.training.metrics.answers import Answers

_SIZE = "model.size_bytes"


class EstimatorRun(RestorableRun):
    """Fits on the train split and judges on the validation split."""

    total = 1

    def __init__(
        self, experiment: Experiment, prepared: Prepared, *, seed: int, wanted: Sequence[str] | None = None
    ) -> None:
        self._experiment, self._prepared, self._wanted = experiment, prepared, wanted
        from modelopt_cli.training import boosters

        self.estimator: Any = experiment.require_model().build(prepared.shapes, seed)
        boosters.check_inside(self.estimator)
        self._metrics: dict[str, float] = {}
        self._warnings: list[str] = []
        self._details: TrainingDetails = {}
        self.answers: dict[str, Answers] = {}

    def advance(self, until: int) -> list[StepReport]:
        """Fit, and judge on the validation split where there is one."""
        from modelopt_cli.training import estimators

        if self.step >= until:
            return []
        start = time.perf_counter()
        train, stopping = self._prepared.train, self._stopping_samples()
        self._warnings = estimators.fit(self.estimator, train, stopping)
        self._metrics = {"train.seconds": time.perf_counter() - start}
        if self._prepared.validation is not None:
            self._metrics = {**self._evaluate("validation", self._wanted), **self._metrics}
        if self._wanted is None or _SIZE in self._wanted:  # it takes writing the whole estimator
            from modelopt_cli.models.files.checkpoints import estimator_bytes

            self._metrics[_SIZE] = float(estimator_bytes(self.estimator))
        self.step = 1
        return [(1, self._metrics)]

    def _stopping_samples(self) -> Any:
        """What a booster's early stopping goes by, where it stops early; noted for the report."""
        from modelopt_cli.training import boosters

        if not boosters.stops_early(self.estimator):
            return None
        train = self._prepared.train
        stopping, how = data_cache.stopping_samples(self._experiment, train.indices)
        self._details = {"early_stopping": _described(len(stopping), len(train), how)}
        return stopping

    def restore(self, trained: Checkpoint) -> None:
        """See the base class; what fitting took is not known any more."""
        self._stopping_samples()
        self.estimator, self._warnings, self.step = trained.model, list(trained.warnings), 1

    def _evaluate(self, split: str, wanted: Sequence[str] | None) -> dict[str, float]:
        from modelopt_cli.training import estimators

        part = getattr(self._prepared, split)
        return estimators.evaluate(
            self.estimator,
            part,
            self._prepared.task,
            prefix=f"{split}.",
            classes=self._prepared.shapes.outputs,
            wanted=wanted,
            extra=self._experiment.evaluation.own,
            keep=partial(self.answers.__setitem__, split) if wanted is None else None,
        )

    @property
    def details(self) -> Mapping[str, object]:
        """`early_stopping`: how many of the train split's samples it went by, and which."""
        return self._details

    @property
    def warnings(self) -> list[str]:
        """What fitting told."""
        return list(self._warnings)

    def metrics(self) -> Mapping[str, float]:
        """Validation metrics, the seconds that fitting took, and the bytes that the estimator takes in a file."""
        return self._metrics

    def full_metrics(self) -> dict[str, float]:
        """Every validation metric, whatever was wanted during the search."""
        judged = self._evaluate("validation", None) if self._prepared.validation is not None else {}
        return {**self._metrics, **judged}

    def test_metrics(self) -> dict[str, float]:
        """Every metric on the test split; empty when there is none. Read once, after every choice is made."""
        return self._evaluate("test", None) if self._prepared.test is not None else {}

    def checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """The fitted estimator with all that using it needs."""
        return checkpoint_of(self._experiment, self._prepared, self.estimator, metrics, self._warnings)


def _described(count: int, whole: int, how: str) -> EarlyStopping:
    return {"samples": count, "of": whole, "split": "train", "drawn": how}
