"""Fisher's irises, from scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Iris"]


@final
class Iris(DataSource):
    """Fisher's iris flowers, bundled: 150 samples, 4 numbers, 3 classes."""

    only_task: ClassVar[Task | None] = "classification"
    only_classes: ClassVar[int | None] = 3
    brings_test: ClassVar[bool] = False

    def load(self, seed: int) -> RawData:
        """Inputs (150, 4), in centimetres."""
        from sklearn.datasets import load_iris

        from modelopt_cli.data.sources._bundled import load

        return load(load_iris())
