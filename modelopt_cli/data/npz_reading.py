"""What the npz source does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.arrays import INPUT_KEYS, TARGET_KEYS, as_inputs, choose_key, keys_of, read_npz
from modelopt_cli.data.files import existing, hash_file
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.targets import interpret

if TYPE_CHECKING:
    from modelopt_cli.data.sources.npz import Npz


_TEST_INPUTS = ("x_test", "X_test", "test_inputs", "inputs_test", "test_x", "test_X", "test_data", "test_images")
_TEST_TARGETS = ("y_test", "Y_test", "test_targets", "targets_test", "test_y", "test_target", "test_labels")
_VALIDATION = {"x_val", "y_val", "x_valid", "y_valid", "x_validation", "y_validation", "x_dev", "y_dev"}


def load(source: Npz) -> RawData:
    """RawData from the arrays that `source` names. Raises InputError or RefusedError."""
    path = existing(source.path)
    inputs_key = choose_key(path, source.inputs, INPUT_KEYS, "inputs")
    targets_key = choose_key(path, source.targets, TARGET_KEYS, "targets")
    inputs, targets = read_npz(path, inputs_key), read_npz(path, targets_key)
    _check_pair(inputs, targets, inputs_key, targets_key)
    own = 0
    test_keys, notes = _test_keys(source, path, inputs_key, targets_key)
    if test_keys is not None:
        more, answers = read_npz(path, test_keys[0]), read_npz(path, test_keys[1])
        _check_pair(more, answers, *test_keys)
        if more.shape[1:] != inputs.shape[1:] or answers.shape[1:] != targets.shape[1:]:
            raise InputError(f"'{path}': test samples have shape {more.shape[1:]}, but the others {inputs.shape[1:]}")
        inputs, targets, own = np.concatenate([inputs, more]), np.concatenate([targets, answers]), len(more)
    found = interpret(targets, source.task, (targets_key,))
    notes += found.notes
    return RawData(
        inputs=as_inputs(inputs, tokens=source.tokens, layout=source.layout),
        targets=found.values,
        task=found.task,
        label_names=found.label_names,
        weights=None if source.weights is None else sample_weights(read_npz(path, source.weights), len(targets)),
        test_indices=np.arange(len(targets) - own, len(targets)) if own else None,
        fingerprint=hash_file(path),
        target_names=(targets_key,),
        notes=notes,
        reading={"inputs": inputs_key, "targets": targets_key, "layout": source.layout},
    )


def _test_keys(
    source: Npz, path: Path, inputs_key: str, targets_key: str
) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    """The test arrays' names, None where there are none; and what is to be told about it."""
    given = (source.test_inputs, source.test_targets)
    if given == (None, None):
        return None, ()
    named = [name for name in given if name not in (None, "auto")]
    if len(named) == 2:
        return (str(given[0]), str(given[1])), ()
    if named or None in given:
        raise InputError("test_inputs and test_targets go together; name both or neither")
    keys = set(keys_of(path)) - {inputs_key, targets_key}
    inputs = next((key for key in _TEST_INPUTS if key in keys), None)
    targets = next((key for key in _TEST_TARGETS if key in keys), None)
    if source.inputs is not None or source.targets is not None or (inputs is None and targets is None):
        return None, _unused(keys)
    if inputs is None or targets is None:
        there = inputs or targets
        return None, (f"'{path.name}' has {there} without its counterpart, so it is not used", *_unused(keys))
    told = f"{inputs} and {targets} of '{path.name}' are the test split (data.test_inputs: null leaves them out)"
    return (inputs, targets), (told, *_unused(keys))


def _unused(keys: set[str]) -> tuple[str, ...]:
    """Arrays that look like a validation split: that is drawn from the train samples."""
    found = sorted(key for key in keys if key.lower() in _VALIDATION)
    text = f"{' and '.join(found)} would make a validation split, but are not used: it is drawn from the train samples"
    return (text,) if found else ()


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
