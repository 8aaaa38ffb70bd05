"""What a model answered to the samples of a split, beside what is true: what its metrics are computed from.

Whoever wants to look at answers (a confusion matrix, a calibration) is handed those that were judged, so that no split
is read twice and no forward pass is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelopt_cli.training.metrics import scoring
from modelopt_cli.training.metrics.scoring import Scores

if TYPE_CHECKING:
    from modelopt_cli.data.raw import Task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Answers:
    """targets: (N,) classes, (N, labels) 0/1 or (N, outputs); scores: logits or values (N, outputs), or `Scores`."""

    task: Task
    targets: Array
    scores: Array | Scores

    @property
    def predictions(self) -> Array:
        """(N,) classes, (N, labels) 0/1, or the values (N, outputs): what the metrics judge."""
        return scoring.decide(self.task, self.scores)

    @property
    def probabilities(self) -> Array | None:
        """(N, classes) of a classification; None where the model gives none, or the task has none."""
        if self.task != "classification":
            return None
        scores = self.scores
        if isinstance(scores, Scores) and (scores.values is None or scores.kind != "probabilities"):
            return None
        return scoring.probabilities(self.task, scores)


Keep = Callable[[Answers], None]
"""Takes the answers that metrics are computed from."""
