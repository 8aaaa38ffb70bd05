"""Breast cancer Wisconsin, from scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, final

from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["BreastCancer"]


@final
class BreastCancer(DataSource):
    """Breast cancer Wisconsin (diagnostic), bundled: 569 samples, 30 numbers, 2 classes."""

    only_task: ClassVar[Task | None] = "classification"
    only_classes: ClassVar[int | None] = 2
    brings_test: ClassVar[bool] = False

    def load(self, seed: int) -> RawData:
        """Inputs (569, 30)."""
        from sklearn.datasets import load_breast_cancer

        from modelopt_cli.data.sources._bundled import load

        return load(load_breast_cancer())
