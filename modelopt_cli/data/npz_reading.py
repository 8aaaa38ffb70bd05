"""What the npz source does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.arrays import INPUT_KEYS, TARGET_KEYS, as_inputs, choose_key, read_npz
from modelopt_cli.data.files import existing, hash_file
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.targets import interpret

if TYPE_CHECKING:
    from modelopt_cli.data.sources.npz import Npz


def load(source: Npz) -> RawData:
    """RawData from the arrays that `source` names. Raises InputError or RefusedError."""
    path = existing(source.path)
    inputs_key = choose_key(path, source.inputs, INPUT_KEYS, "inputs")
    targets_key = choose_key(path, source.targets, TARGET_KEYS, "targets")
    inputs, targets = read_npz(path, inputs_key), read_npz(path, targets_key)
    _check_pair(inputs, targets, inputs_key, targets_key)
    own = 0
    if source.test_inputs is not None or source.test_targets is not None:
        if source.test_inputs is None or source.test_targets is None:
            raise InputError("test_inputs and test_targets go together; name both or neither")
        more, answers = read_npz(path, source.test_inputs), read_npz(path, source.test_targets)
        _check_pair(more, answers, source.test_inputs, source.test_targets)
        if more.shape[1:] != inputs.shape[1:] or answers.shape[1:] != targets.shape[1:]:
            raise InputError(f"'{path}': test samples have shape {more.shape[1:]}, but the others {inputs.shape[1:]}")
        inputs, targets, own = np.concatenate([inputs, more]), np.concatenate([targets, answers]), len(more)
    found = interpret(targets, source.task, (targets_key,))
    return RawData(
        inputs=as_inputs(inputs, tokens=source.tokens, layout=source.layout),
        targets=found.values,
        task=found.task,
        label_names=found.label_names,
        weights=None if source.weights is None else sample_weights(read_npz(path, source.weights), len(targets)),
        test_indices=np.arange(len(targets) - own, len(targets)) if own else None,
        fingerprint=hash_file(path),
        target_names=(targets_key,),
        reading={"inputs": inputs_key, "targets": targets_key, "layout": source.layout},
    )


def sample_weights(values: np.ndarray, samples: int) -> np.ndarray:
    """(N,) float64. Raises InputError where they are not one number of 0 or more a sample."""
    if values.shape != (samples,) or values.dtype.kind not in "biuf":
        raise InputError(f"weights have shape {values.shape}, but must be one number for each of {samples} samples")
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise InputError("weights must be finite, 0 or more, and not all 0")
    return values.astype(np.float64)


def _check_pair(inputs: np.ndarray, targets: np.ndarray, inputs_key: str, targets_key: str) -> None:
    if inputs.ndim == 0 or targets.ndim == 0 or len(inputs) != len(targets):
        raise InputError(
            f"array '{inputs_key}' has shape {inputs.shape} and '{targets_key}' {targets.shape}; "
            "both must have as many rows as there are samples"
        )
    if len(inputs) == 0:
        raise InputError(f"array '{inputs_key}' is empty")
