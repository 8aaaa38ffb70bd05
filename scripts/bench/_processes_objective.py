"""An objective of a fixed amount of work: so many times 64 kB are hashed, which holds one core and no lock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from modelopt_cli.tuning.objective import Objective, Run, StepReport
from modelopt_cli.tuning.trials.trial import Params

_BLOCK = bytes(2**16)


def work(rounds: int) -> float:
    """A number that takes so many rounds."""
    digest = hashlib.sha256()
    for _ in range(rounds):
        digest.update(_BLOCK)
    return digest.digest()[0] / 256


class Hashing(Objective):
    """Runs of one step."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds

    def open(self, params: Params, seed: int, state: Any = None) -> Run:
        return _Hashing(self._rounds)


class _Hashing(Run):
    def __init__(self, rounds: int) -> None:
        self._rounds, self._loss = rounds, 1.0

    def advance(self, until: int) -> list[StepReport]:
        self._loss, self.step = work(self._rounds), 1
        return [(1, self.metrics())]

    def metrics(self) -> Mapping[str, float]:
        return {"loss": self._loss}
