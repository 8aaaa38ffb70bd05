"""Data as it comes from its source, before splitting and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from modelopt_cli.data.columns import ColumnKind

Task = Literal["classification", "multilabel", "regression"]


@dataclass(frozen=True, eq=False)
class RawData:
    """N samples of one task. Row i of every array is sample i."""

    inputs: np.ndarray | pd.DataFrame
    # (N, features) numbers | (N, channels, height, width) uint8 or float | (N, length) integer tokens
    # | a frame with number and category columns, missing values allowed
    targets: np.ndarray
    # classification: (N,) int64 class index | multilabel: (N, labels) 0/1 | regression: (N,) or (N, outputs) float
    task: Task
    label_names: tuple[str, ...] = ()  # classes or labels, in index order; output names for regression
    feature_names: tuple[str, ...] = ()
    weights: np.ndarray | None = None  # (N,) sample weights
    test_indices: np.ndarray | None = None  # the source's own test samples (MNIST's t10k files)
    fingerprint: str = ""  # hash of the content, hex
    target_names: tuple[str, ...] = ()  # column(s) that the targets came from, where they came from columns
    reading: Mapping[str, Any] = field(default_factory=dict)
    # how files of this kind are to be read again for new data (separator, keys, image size): plain values
    aside: Mapping[str, Any] = field(default_factory=dict)  # (N,) values of columns that splits may go by
    order: np.ndarray | None = None  # (N,) float64 that grows with time; None: samples stand in order of time
    swapped: bool = False  # the two classes have changed numbers, so that the positive one is the second
    kinds: Mapping[str, ColumnKind] = field(default_factory=dict)  # of columns, by name, where they have names
    notes: tuple[str, ...] = ()  # what was done to the data or looks odd in them: told with every report

    @property
    def strata(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Classes and names as they were numbered before a positive one was chosen: splits do not depend on it."""
        if not self.swapped:
            return self.targets, self.label_names
        return 1 - self.targets, self.label_names[::-1]

    def __len__(self) -> int:
        return len(self.targets)
