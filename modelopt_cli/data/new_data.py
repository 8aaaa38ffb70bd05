"""New data for a trained model: read as its training data was, matched to it by column name or shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError, did_you_mean
from modelopt_cli.data.arrays import INPUT_KEYS, TARGET_KEYS, as_inputs, choose_key, keys_of, read_npy, read_npz
from modelopt_cli.data.columns import Notation, number_column, shown, text_column
from modelopt_cli.data.csv_files import CsvForm, header_of, new_encoding
from modelopt_cli.data.file_kinds import refuse_other_kinds
from modelopt_cli.data.files import existing
from modelopt_cli.data.idx_files import idx_files, is_idx, read_idx
from modelopt_cli.data.image_files import SUFFIXES, decode, list_classes, list_images
from modelopt_cli.data.npz_reading import sample_weights as array_weights
from modelopt_cli.data.opening import head_of, table_suffix
from modelopt_cli.data.part import Part
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.data.raw import Task
from modelopt_cli.data.tables import (
    JSONL,
    PARQUET,
    Table,
    check_unique,
    jsonl_table,
    mark_missing,
    read_parquet,
    read_text_table,
    sample_weights,
)
from modelopt_cli.data.targets import encode

Note = Callable[[str], None]
_SEPARATORS = (",", ";", "\t", "|")
_TEXT = (".csv", ".tsv", ".txt", *JSONL)


@dataclass(frozen=True)
class _Wanted:
    """What is looked for beside the inputs."""

    targets: tuple[str, ...] = ()  # names of the targets; none: only inputs
    labels: tuple[str, ...] = ()  # the classes, for a classification
    weights: str | None = None  # name of the sample weights


def load_inputs(path: str | Path, preprocessing: Preprocessing, note: Note = lambda _: None) -> np.ndarray:
    """Inputs of new data, preprocessed: (N, *preprocessing.output_shape).

    A table (.csv, .tsv, .jsonl, also packed; .parquet) must have the columns that the model was trained on; others are
    ignored. Also .npz, .npy, IDX files, an image, or a folder of images. `note` is told what is not as in training.
    Raises InputError with the remedy.
    """
    return preprocessing.apply(_read(_found(path), preprocessing, _Wanted(), note).inputs)


def names_of(path: str | Path) -> list[str] | None:
    """The files of a folder of images, relative to it, in the order of `load_inputs`; None for other data."""
    source = _found(path)
    if not source.is_dir() or is_idx(source):
        return None
    return [str(file.relative_to(source)) for file in list_images(source)]


def load_labelled(
    path: str | Path,
    preprocessing: Preprocessing,
    label_names: Sequence[str],
    task: Task,
    weights: str | None = None,
    note: Note = lambda _: None,
) -> Part:
    """Inputs, targets and weights of new data. `weights`: what the training data called them.

    Image files are labelled by their folders. Raises InputError, also for a class that the model does not know.
    """
    names = preprocessing.target_names or ("target",)
    source = _found(path)
    labels = tuple(label_names) if task == "classification" and len(names) == 1 else ()  # else one-hot columns
    data = _read(source, preprocessing, _Wanted(names, labels, weights), note)
    if data.targets is None:
        raise InputError(f"'{source}' has no targets to evaluate against; use a table, a .npz file or class folders")
    inputs = preprocessing.apply(data.inputs)
    codes = encode(data.targets, task, label_names, names)
    if len(codes) != len(inputs):
        raise InputError(f"'{source}' has {len(inputs)} inputs, but {len(codes)} targets; each input needs one")
    if data.weights is None and (preprocessing.weighted or weights is not None):
        named = "" if weights is None else f" ('{weights}')"
        note(
            f"the model was trained with sample weights{named}, and '{source}' has none: in these figures all samples "
            "count alike"
        )
    shares = None if data.weights is None else data.weights.astype(np.float32)
    return Part(inputs, preprocessing.apply_targets(codes), shares, np.arange(len(codes)))


@dataclass(frozen=True, eq=False)
class _NewData:
    inputs: np.ndarray | pd.DataFrame
    targets: Any = None
    weights: np.ndarray | None = None


def _found(path: str | Path) -> Path:
    source = Path(path).expanduser()
    return source if source.is_dir() else existing(source)


def _read(source: Path, preprocessing: Preprocessing, wanted: _Wanted, note: Note) -> _NewData:
    suffix = source.suffix.lower()
    if is_idx(source):
        return _read_idx(source, note)
    if source.is_dir() or suffix in SUFFIXES:
        return _read_images(source, preprocessing, labelled=bool(wanted.targets), note=note)
    if table_suffix(source) in (*_TEXT, *PARQUET):
        return _from_table(_read_table(source, preprocessing, wanted), source, preprocessing, wanted, note)
    layout = preprocessing.reading.get("layout", "auto")
    tokens = preprocessing.kind == "tokens"
    if suffix == ".npy":
        return _NewData(as_inputs(read_npy(source), tokens=tokens, layout=layout))
    if suffix == ".npz":
        inputs = read_npz(source, choose_key(source, _key(source, preprocessing, "inputs"), INPUT_KEYS, "inputs"))
        answers, shares = None, None
        if wanted.targets:
            key = choose_key(source, _key(source, preprocessing, "targets"), TARGET_KEYS, "targets")
            answers = read_npz(source, key)
        if wanted.weights is not None and wanted.weights in keys_of(source):
            shares = array_weights(read_npz(source, wanted.weights), len(inputs))
        return _NewData(as_inputs(inputs, tokens=tokens, layout=layout), answers, shares)
    refuse_other_kinds(head_of(source), f"'{source}'")
    raise InputError(
        f"'{source}' is no kind of data; use .csv, .tsv, .jsonl, .parquet, .npz, .npy, IDX files, or images"
    )


def _key(source: Path, preprocessing: Preprocessing, option: str) -> str | None:
    """The training data's name of the array, where this file has it too."""
    name = preprocessing.reading.get(option)
    return name if name in keys_of(source) else None


def _read_idx(source: Path, note: Note) -> _NewData:
    if source.is_file():
        return _NewData(as_inputs(read_idx(source), layout="channels_first"))
    files = idx_files(source)
    part = "test" if ("test", "images") in files else "train"
    if len(files) > 2:
        note(f"'{source}' has train and test files; the test files are used")
    images = as_inputs(read_idx(files[part, "images"]), layout="channels_first")
    return _NewData(images, read_idx(files[part, "labels"]))


def _read_images(source: Path, preprocessing: Preprocessing, labelled: bool, note: Note) -> _NewData:
    if preprocessing.kind != "images":
        raise InputError(f"'{source}' is images, but the model was trained on {preprocessing.kind}")
    reading = preprocessing.reading
    size = None if reading.get("size") is None else (int(reading["size"][0]), int(reading["size"][1]))
    most = int(reading.get("max_pixels", 89_478_485))
    mode = "gray" if preprocessing.shape[0] == 1 else "color"
    over_white = bool(reading.get("over_white", "max_pixels" not in reading))  # else a model of an earlier version
    if labelled and source.is_dir():
        listed = list_classes(source, least=1)
        images, _ = decode(listed.files, size, mode, most, over_white=over_white, note=note)  # type: ignore[arg-type]
        return _NewData(images, np.array(listed.classes)[listed.targets])
    files = list_images(source) if source.is_dir() else [source]
    images, _ = decode(files, size, mode, most, over_white=over_white, note=note)  # type: ignore[arg-type]
    return _NewData(images)


def _read_table(source: Path, preprocessing: Preprocessing, wanted: _Wanted) -> Table:
    reading = preprocessing.reading
    notation = Notation(reading.get("decimal", "."), reading.get("thousands"))
    missing = None if reading.get("missing_values") is None else tuple(reading["missing_values"])
    suffix = table_suffix(source)
    if suffix in PARQUET:
        frame = read_parquet(source, may_be_empty=not wanted.targets)
        return Table(mark_missing(frame, missing or ()), f"'{source}'", notation)
    if suffix in JSONL:
        return jsonl_table(source, notation, missing or ())
    encoding = new_encoding(source, reading.get("encoding", "utf-8"))
    names = {*preprocessing.feature_names, *wanted.targets}
    first = "\t" if suffix == ".tsv" else reading.get("separator", ",")
    matching = {mark: len(names.intersection(header_of(source, mark, encoding))) for mark in (first, *_SEPARATORS)}
    separator = max(matching, key=lambda mark: (matching[mark], mark == first))  # the first of the best
    learnt = {**preprocessing.categories, **(dict.fromkeys(wanted.targets, wanted.labels) if wanted.labels else {})}
    form, may_be_empty = CsvForm(separator, encoding, notation, missing), not wanted.targets
    return read_text_table(source, form, learnt, learnt=learnt, may_be_empty=may_be_empty)


def _from_table(table: Table, source: Path, preprocessing: Preprocessing, wanted: _Wanted, note: Note) -> _NewData:
    """Every cell is read by what its column was learnt as, whatever the other cells of this file are."""
    if preprocessing.kind != "numbers":
        raise InputError(f"'{source}' is a table, but the model was trained on {preprocessing.kind}; use .npz or .npy")
    check_unique(table)
    frame, names = table.frame, preprocessing.feature_names
    beside = {*wanted.targets, *preprocessing.target_names, *([] if wanted.weights is None else [wanted.weights])}
    inputs: Any
    if not names:  # trained on an array: columns count by their order
        rest = frame.drop(columns=list(beside), errors="ignore")
        if rest.shape[1] != preprocessing.shape[0]:
            raise InputError(
                f"'{source}' has {rest.shape[1]} columns, but the model takes {preprocessing.shape[0]} numbers"
            )
        columns = [number_column(rest[name], str(name), None, table.notation, table.place) for name in rest.columns]
        inputs = np.stack(columns, 1)
    else:
        _check_names(frame, [*names, *wanted.targets], source)
        extra = [str(name) for name in frame.columns if name not in {*names, *beside}]
        if extra:
            note(f"'{source}': ignored {len(extra)} columns that the model does not use: {', '.join(extra[:10])}")
        inputs = pd.DataFrame({name: _feature(table, name, preprocessing, note) for name in names})
    _check_names(frame, wanted.targets, source)
    targets = pd.DataFrame({name: _target(table, name, preprocessing, wanted.labels) for name in wanted.targets})
    weights = None
    if wanted.weights is not None and wanted.weights in frame.columns:
        weights = sample_weights(frame[wanted.weights], wanted.weights, table)
    return _NewData(inputs, targets if wanted.targets else None, weights)


def _feature(table: Table, name: str, preprocessing: Preprocessing, note: Note) -> np.ndarray:
    column, kind = table.frame[name], preprocessing.kind_of(name)
    if name not in preprocessing.categories:
        return number_column(column, name, kind, table.notation, table.place)
    learnt = preprocessing.categories[name]
    texts = text_column(column, kind or "text", table.notation, learnt)
    known = {None, *learnt}
    new = [row for row, text in enumerate(texts) if text not in known]
    if new:
        first = shown(texts[new[0]])
        note(
            f"{table.what}, column '{name}': {len(new)} of {len(texts)} cells are texts that the model was not trained "
            f"on, such as {first} ({table.where(new[0])}); they count as no category"
        )
    return texts


def _target(table: Table, name: str, preprocessing: Preprocessing, labels: tuple[str, ...]) -> np.ndarray:
    column, kind = table.frame[name], preprocessing.kind_of(name, labels)
    if labels:
        return text_column(column, kind or "text", table.notation, labels)
    return number_column(column, name, kind, table.notation, table.place)


def _check_names(frame: pd.DataFrame, wanted: Sequence[str], source: Path) -> None:
    names = [str(name) for name in frame.columns]
    missing = [name for name in wanted if name not in names]
    if missing:
        listed = ", ".join(f"'{name}'" for name in missing[:10]) + (", ..." if len(missing) > 10 else "")
        has = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(
            f"'{source}' lacks {len(missing)} of the columns that the model was trained on: {listed}."
            f"{did_you_mean(missing[0], names)} It has: {has}"
        )
