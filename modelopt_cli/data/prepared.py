"""A data set, split and preprocessed: what training sees."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.part import Part
from modelopt_cli.data.preprocessing import Framework, Preprocessing

if TYPE_CHECKING:
    from modelopt_cli.data.raw import RawData, Task
    from modelopt_cli.data.sources import DataSource
    from modelopt_cli.data.splits import SplitIndices
    from modelopt_cli.models.architectures import Shapes


@dataclass(frozen=True, eq=False)
class Prepared:
    """All splits of a data set, and what is known about them. None: an empty split."""

    train: Part
    validation: Part | None
    test: Part | None
    shapes: Shapes
    task: Task
    label_names: tuple[str, ...]
    preprocessing: Preprocessing
    fingerprint: str  # of content, splits and preprocessing, hex


def prepare(source: DataSource, raw: RawData, indices: SplitIndices, framework: Framework = "torch") -> Prepared:
    """Fit the preprocessing on the train split and apply it to all splits.

    `source.standardize` None: yes for torch, no for scikit-learn. Images stay uint8 for torch and become rows of
    float32 for scikit-learn. Raises InputError where the data cannot be used.
    """
    from modelopt_cli.models.architectures import Shapes

    _check_lengths(raw)
    standardize = framework == "torch" if source.standardize is None else source.standardize
    preprocessing = Preprocessing.fit(raw, indices.train, standardize=standardize, framework=framework)
    outputs = raw.targets.shape[1] if raw.targets.ndim == 2 else 1
    if raw.task == "classification":
        outputs = len(raw.label_names) or int(raw.targets.max()) + 1
    return Prepared(
        train=preprocessing.part(raw, indices.train),
        validation=preprocessing.part(raw, indices.validation) if len(indices.validation) else None,
        test=preprocessing.part(raw, indices.test) if len(indices.test) else None,
        shapes=Shapes(preprocessing.output_shape, outputs, raw.task, preprocessing.tokens),
        task=raw.task,
        label_names=raw.label_names,
        preprocessing=preprocessing,
        fingerprint=_fingerprint(raw, indices, preprocessing),
    )


def _check_lengths(raw: RawData) -> None:
    if len(raw.inputs) != len(raw.targets):
        raise InputError(f"there are {len(raw.inputs)} inputs, but {len(raw.targets)} targets; each input needs one")
    if raw.weights is not None and len(raw.weights) != len(raw.targets):
        raise InputError(f"there are {len(raw.weights)} sample weights for {len(raw.targets)} samples; each needs one")


def _fingerprint(raw: RawData, indices: SplitIndices, preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(raw.fingerprint.encode())
    for part in (indices.train, indices.validation, indices.test):
        digest.update(f"/{len(part)}/".encode() + np.ascontiguousarray(part, np.int64).tobytes())
    digest.update(json.dumps(preprocessing.to_plain(), sort_keys=True).encode())
    return digest.hexdigest()[:32]
