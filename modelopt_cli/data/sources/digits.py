"""Handwritten digits, from scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, final

from pydantic import Field

from modelopt_cli.data.raw import Task
from modelopt_cli.data.sources import DataSource

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData

__all__ = ["Digits"]


@final
class Digits(DataSource):
    """Handwritten digits, bundled: 1,797 samples of 8x8 pixels (0 to 16), 10 classes."""

    changes_inputs: ClassVar[frozenset[str]] = DataSource.changes_inputs | {"shape"}
    only_task: ClassVar[Task | None] = "classification"
    only_classes: ClassVar[int | None] = 10
    brings_test: ClassVar[bool] = False

    shape: Literal["flat", "image"] = Field("flat", description="flat: 64 numbers; image: 1 channel of 8x8 pixels.")

    def load(self, seed: int) -> RawData:
        """Inputs (1797, 64), or (1797, 1, 8, 8) for convolutions, with scikit-learn's own values."""
        from dataclasses import replace

        import numpy as np
        from sklearn.datasets import load_digits

        from modelopt_cli.data.sources._bundled import load

        raw = load(load_digits())
        if self.shape == "flat":
            return raw
        return replace(raw, inputs=np.asarray(raw.inputs).reshape(-1, 1, 8, 8), feature_names=())
