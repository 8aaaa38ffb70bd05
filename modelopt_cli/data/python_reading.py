"""Data from a function of the user: it is called, and what it returns becomes RawData or an error that says why."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError, ModeloptError
from modelopt_cli.core.imports import describe_user_error, load_target
from modelopt_cli.data.arrays import Layout, as_inputs
from modelopt_cli.data.columns import ColumnKind, kinds_of
from modelopt_cli.data.files import hash_arrays
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.tables import Table, check_targets, check_unique, features_of, told_features
from modelopt_cli.data.targets import AskedTask, interpret


def load(
    target: str, folder: str, arguments: Mapping[str, Any], seed: int, *, task: AskedTask, tokens: bool, layout: Layout
) -> RawData:
    """RawData from what the function `target`, imported from `folder`, returns; the rest is as the options say.

    Raises UsageError or InputError naming the target, and the line in it.
    """
    function = load_target(target, folder)
    if not callable(function):
        raise InputError(f"data target '{target}' is a {type(function).__name__}, but must be a function")
    returned = _call(function, target, arguments, seed)
    if isinstance(returned, RawData):
        return returned if returned.fingerprint else replace(returned, fingerprint=_fingerprint(returned))
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise InputError(
            f"data target '{target}' returned {_described(returned)}; it must return (inputs, targets) or RawData"
        )
    inputs, targets = (_to_host(part, target, what) for part, what in zip(returned, ("inputs", "targets"), strict=True))
    names: tuple[str, ...] = ()
    kinds: dict[str, ColumnKind] = {}
    notes: list[str] = []
    if isinstance(inputs, pd.DataFrame):
        table = Table(inputs.set_axis(inputs.columns.map(str), axis=1), f"data target '{target}'")
        check_unique(table)
        names = tuple(table.frame.columns)
        kinds |= kinds_of(table.frame, names)
        prepared = features_of(table, names, kinds)
        notes += told_features(table, names, kinds)
    else:
        prepared = as_inputs(inputs, tokens=tokens, layout=layout)
    meaning = interpret(targets, task, _target_names(targets))
    answers = Table(_answers(targets), f"data target '{target}'")
    check_unique(answers)
    kinds |= kinds_of(answers.frame, answers.frame.columns)
    notes += check_targets(answers, list(answers.frame.columns), task, kinds)
    raw = RawData(
        inputs=prepared,
        targets=meaning.values,
        task=meaning.task,
        label_names=meaning.label_names,
        feature_names=names,
        target_names=_target_names(targets),
        kinds=kinds,
        notes=(*notes, *meaning.notes),
    )
    return replace(raw, fingerprint=_fingerprint(raw))


def _call(function: Any, target: str, given: Mapping[str, Any], seed: int) -> Any:
    arguments = dict(given)
    try:
        accepted = inspect.signature(function).parameters
        if "seed" in accepted and "seed" not in arguments:
            arguments["seed"] = seed
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise InputError(f"data target '{target}' does not take these arguments: {error}") from None
    except ValueError:  # some built-in functions have no signature
        pass
    try:
        return function(**arguments)
    except ModeloptError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"data target '{target}' failed: {describe_user_error(error)}") from error


def _to_host(part: Any, target: str, what: str) -> Any:
    """Torch tensors, wherever they are and of whatever width, frames, series and sparse matrices, or an array.

    Raises InputError for what is none of these.
    """
    if hasattr(part, "detach"):
        import torch

        with contextlib.suppress(NotImplementedError, RuntimeError, TypeError):  # quantized, nested, ...
            tensor = part.detach().cpu()
            if tensor.layout is not torch.strided:
                tensor = tensor.to_dense()
            if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
                tensor = tensor.float()  # bfloat16 and narrower ones, which numpy does not have
            return tensor.numpy()
        return _refuse(part, target, what)
    if isinstance(part, np.ma.MaskedArray):  # what is masked is missing, whatever number stands there
        if not np.ma.is_masked(part):
            return part.data
        numeric = part.dtype.kind in "biuf"
        return np.ma.filled(part.astype(np.float64), np.nan) if numeric else _refuse(part, target, what)
    if isinstance(part, pd.DataFrame | pd.Series | np.ndarray) or hasattr(part, "toarray"):
        return part
    if isinstance(part, str | bytes | Mapping) or not isinstance(part, Sequence):
        return _refuse(part, target, what)
    try:
        return np.asarray([_row(item) for item in part])
    except (ValueError, TypeError, RuntimeError):
        return _refuse(part, target, what)


def _row(item: Any) -> Any:
    return item.detach().cpu().float().numpy() if hasattr(item, "detach") and item.ndim else item


def _refuse(part: Any, target: str, what: str) -> NoReturn:
    raise InputError(
        f"data target '{target}' returned {_described(part)} as its {what}, which is no array; it must return "
        "(inputs, targets), each an array, a tensor, a frame or a list of rows of one length"
    )


def _answers(targets: Any) -> pd.DataFrame:
    """The targets as named columns."""
    frame = pd.DataFrame(targets if isinstance(targets, pd.Series | pd.DataFrame) else np.asarray(targets))
    return frame.set_axis(_target_names(targets), axis=1)


def _target_names(targets: Any) -> tuple[str, ...]:
    if isinstance(targets, pd.DataFrame):
        return tuple(str(name) for name in targets.columns)
    if isinstance(targets, pd.Series) and targets.name is not None:
        return (str(targets.name),)
    shape = np.shape(targets)
    return ("target",) if len(shape) < 2 else tuple(f"target_{number}" for number in range(shape[1]))


def _fingerprint(raw: RawData) -> str:
    if isinstance(raw.inputs, pd.DataFrame):
        return hash_arrays(pd.util.hash_pandas_object(raw.inputs, index=False).to_numpy(), raw.targets)
    return hash_arrays(np.asarray(raw.inputs), raw.targets)


def _described(returned: Any) -> str:
    return f"{len(returned)} values" if isinstance(returned, tuple | list) else type(returned).__name__
