"""Reading a data set from the arrays of a .npz file: which are inputs, targets and test samples, and what they mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.arrays import INPUT_KEYS, TARGET_KEYS, Layout, as_inputs, choose_key, keys_of, read_npz
from modelopt_cli.data.files import existing, hash_file
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.targets import AskedTask, interpret

_TEST_INPUTS = ("x_test", "X_test", "test_inputs", "inputs_test", "test_x", "test_X", "test_data", "test_images")
_TEST_TARGETS = ("y_test", "Y_test", "test_targets", "targets_test", "test_y", "test_target", "test_labels")
_VALIDATION = {"x_val", "y_val", "x_valid", "y_valid", "x_validation", "y_validation", "x_dev", "y_dev"}


def load(
    file: str,
    *,
    inputs: str | None,
    targets: str | None,
    weights: str | None,
    test_inputs: str | None,
    test_targets: str | None,
    task: AskedTask,
    tokens: bool,
    layout: Layout,
) -> RawData:
    """RawData from the arrays that are named. Raises InputError or RefusedError.

    The options are those of the source npz: names of arrays (null: the usual ones), and what they mean.
    """
    path = existing(file)
    inputs_key = choose_key(path, inputs, INPUT_KEYS, "inputs")
    targets_key = choose_key(path, targets, TARGET_KEYS, "targets")
    samples, answers = read_npz(path, inputs_key), read_npz(path, targets_key)
    _check_pair(samples, answers, inputs_key, targets_key)
    own = 0
    named = inputs is not None or targets is not None
    test_keys, notes = _test_keys((test_inputs, test_targets), path, inputs_key, targets_key, named=named)
    if test_keys is not None:
        more, more_answers = read_npz(path, test_keys[0]), read_npz(path, test_keys[1])
        _check_pair(more, more_answers, *test_keys)
        if more.shape[1:] != samples.shape[1:] or more_answers.shape[1:] != answers.shape[1:]:
            raise InputError(f"'{path}': test samples have shape {more.shape[1:]}, but the others {samples.shape[1:]}")
        samples, answers, own = np.concatenate([samples, more]), np.concatenate([answers, more_answers]), len(more)
    meaning = interpret(answers, task, (targets_key,))
    notes += meaning.notes
    return RawData(
        inputs=as_inputs(samples, tokens=tokens, layout=layout),
        targets=meaning.values,
        task=meaning.task,
        label_names=meaning.label_names,
        weights=None if weights is None else sample_weights(read_npz(path, weights), len(answers)),
        test_indices=np.arange(len(answers) - own, len(answers)) if own else None,
        fingerprint=hash_file(path),
        target_names=(targets_key,),
        notes=notes,
        reading={"inputs": inputs_key, "targets": targets_key, "layout": layout},
    )


def _test_keys(
    given: tuple[str | None, str | None], path: Path, inputs_key: str, targets_key: str, *, named: bool
) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    """The test arrays' names, None where there are none; and what is to be said about it.

    given: the options test_inputs and test_targets. named: whether the options name the other arrays.
    """
    if given == (None, None):
        return None, ()
    chosen = [name for name in given if name not in (None, "auto")]
    if len(chosen) == 2:
        return (str(given[0]), str(given[1])), ()
    if chosen or None in given:
        raise InputError("test_inputs and test_targets go together; name both or neither")
    keys = set(keys_of(path)) - {inputs_key, targets_key}
    inputs = next((key for key in _TEST_INPUTS if key in keys), None)
    targets = next((key for key in _TEST_TARGETS if key in keys), None)
    if named or (inputs is None and targets is None):
        return None, _unused(keys)
    if inputs is None or targets is None:
        there = inputs or targets
        return None, (f"'{path.name}' has {there} without its counterpart, so it is not used", *_unused(keys))
    note = f"{inputs} and {targets} of '{path.name}' are the test split (data.test_inputs: null leaves them out)"
    return (inputs, targets), (note, *_unused(keys))


def _unused(keys: set[str]) -> tuple[str, ...]:
    """Arrays that look like a validation split: that is drawn from the train samples."""
    unused = sorted(key for key in keys if key.lower() in _VALIDATION)
    text = f"{' and '.join(unused)} would make a validation split, but are not used: it is drawn from the train samples"
    return (text,) if unused else ()


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
