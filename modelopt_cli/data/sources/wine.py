"""The wine recognition data, from scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Wine"]


@final
class Wine(DataSource):
    """Italian wines, bundled: 178 samples, 13 numbers, 3 cultivars."""

    only_task: ClassVar[Task | None] = "classification"
    only_classes: ClassVar[int | None] = 3
    brings_test: ClassVar[bool] = False

    def load(self, seed: int) -> RawData:
        """Inputs (178, 13)."""
        from sklearn.datasets import load_wine

        from modelopt_cli.data.sources._bundled import load

        return load(load_wine())
