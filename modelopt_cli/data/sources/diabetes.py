"""The diabetes progression data, from scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Diabetes"]


@final
class Diabetes(DataSource):
    """Diabetes progression, bundled: 442 samples, 10 numbers, regression."""

    only_task: ClassVar[Task | None] = "regression"
    brings_test: ClassVar[bool] = False

    def load(self, seed: int) -> RawData:
        """Inputs (442, 10), as scikit-learn has scaled them; targets (442,)."""
        from sklearn.datasets import load_diabetes

        from modelopt_cli.data.sources._bundled import load

        return load(load_diabetes())
