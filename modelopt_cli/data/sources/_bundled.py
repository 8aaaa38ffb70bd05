"""Reading the data sets that come with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelopt_cli.data.files import hash_arrays
from modelopt_cli.data.raw import RawData


def load(bunch: Any) -> RawData:
    """A scikit-learn `Bunch` as RawData: inputs (N, features) float64, targets classes or (diabetes) numbers."""
    inputs = np.asarray(bunch.data, np.float64)
    classes = "target_names" in bunch
    targets = np.asarray(bunch.target, np.int64 if classes else np.float64)
    return RawData(
        inputs=inputs,
        targets=targets,
        task="classification" if classes else "regression",
        label_names=tuple(str(name) for name in bunch.target_names) if classes else ("target",),
        feature_names=tuple(str(name) for name in bunch.feature_names),
        fingerprint=hash_arrays(inputs, targets),
        target_names=("target",),
    )
