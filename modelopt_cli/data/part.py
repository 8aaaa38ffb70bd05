"""One split of a data set, preprocessed: what a training or an evaluation goes over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """One split, preprocessed."""

    inputs: np.ndarray  # (N, *shape) float32 (tables for scikit-learn: float64), uint8 images, int64 tokens
    targets: np.ndarray  # (N,) int64 | (N, labels) float32 | (N, outputs) float64
    weights: np.ndarray | None  # (N,) float32
    indices: np.ndarray  # (N,) int64, positions in the source

    def __len__(self) -> int:
        return len(self.targets)
