"""Cross-validation as a run: a step is a fold, and the metrics are the means over the folds so far.

What scikit-learn's `cross_val_score` computes, for estimators and torch modules alike: each fold trains on the others'
samples (preprocessing fitted on them alone) and is judged on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NotRequired, TypedDict

from modelopt_cli.core.warning_log import WarningLog
from modelopt_cli.core.work import tell
from modelopt_cli.tuning.objective import Part, Run, StepReport

if TYPE_CHECKING:
    from modelopt_cli.data.prepared import Prepared


EPOCHS = "epochs of this fold"


class CrossValidationState(TypedDict):
    """A saved cross-validation: the metrics of the folds that are finished, and what they told."""

    folds: Sequence[Mapping[str, float]]
    warnings: NotRequired[Sequence[str]]


class CrossValidationRun(Run):
    """Runs `open_fold(prepared)` to its end for each fold; keeps every fold's metrics."""

    def __init__(
        self,
        folds: Sequence[Callable[[], Prepared]],
        open_fold: Callable[[Prepared], Run],
        state: CrossValidationState | Sequence[Mapping[str, float]] | None = None,
    ) -> None:
        self._folds, self._open_fold = folds, open_fold
        self.total = len(folds)
        """`state`: earlier versions saved the folds alone."""
        known: CrossValidationState = {"folds": []}
        if isinstance(state, Mapping):
            known = state
        elif state is not None:
            known["folds"] = list(state)
        self.results: list[Mapping[str, float]] = list(known["folds"])
        self._log = WarningLog(known.get("warnings", ()))
        self.step = len(self.results)

    def advance(self, until: int) -> list[StepReport]:
        """Compute folds up to number `until`."""
        reports: list[StepReport] = []
        while self.step < min(until, self.total):
            run = self._open_fold(self._folds[self.step]())
            try:
                while run.step < run.total:
                    tell(EPOCHS, run.step, run.known_total)
                    run.advance(run.total if run.leaps else run.step + 1)
                self.results.append(dict(run.metrics()))
                self._log.add(run.warnings)
            finally:
                run.close()
            self.step += 1
            reports.append((self.step, self.metrics()))
        return reports

    @property
    def ahead(self) -> list[Part]:
        """See the base class: folds cost alike."""
        return [Part("fold", self.total - self.step, counts=EPOCHS)]

    def metrics(self) -> Mapping[str, float]:
        """`NAME`: the mean over the folds; `NAME_std`: their standard deviation, for the validation metrics."""
        import numpy as np

        means: dict[str, float] = {}
        for name in self.results[0] if self.results else ():
            values = [fold[name] for fold in self.results if name in fold]
            means[name] = float(np.mean(values))
            if name.startswith("validation."):
                means[f"{name}_std"] = float(np.std(values))
        if "train.seconds" in means:
            means["train.seconds"] = float(sum(fold["train.seconds"] for fold in self.results))
        return means

    @property
    def warnings(self) -> list[str]:
        """Those of the folds, each once."""
        return self._log.texts

    def state(self) -> CrossValidationState:
        """The finished folds' metrics, and what they told."""
        return {"folds": [dict(fold) for fold in self.results], "warnings": self._log.texts}
