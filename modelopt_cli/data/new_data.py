"""New data for a trained model: read as its training data was, matched to it by column name or shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelopt_cli.core.errors import InputError, did_you_mean
from modelopt_cli.data.arrays import INPUT_KEYS, TARGET_KEYS, as_inputs, choose_key, read_npy, read_npz
from modelopt_cli.data.files import existing
from modelopt_cli.data.idx_files import idx_files, is_idx, read_idx
from modelopt_cli.data.image_files import SUFFIXES, decode, list_classes, list_images
from modelopt_cli.data.prepared import Part
from modelopt_cli.data.preprocessing import Preprocessing
from modelopt_cli.data.raw import Task
from modelopt_cli.data.tables import header_of, number_column, read_csv, read_parquet
from modelopt_cli.data.targets import encode

Note = Callable[[str], None]
_SEPARATORS = (",", ";", "\t", "|")


def load_inputs(path: str | Path, preprocessing: Preprocessing, note: Note = lambda _: None) -> np.ndarray:
    """Inputs of new data, preprocessed: (N, *preprocessing.output_shape).

    A table (.csv, .tsv, .parquet) must have the columns that the model was trained on; others are ignored, and `note`
    is told. Also .npz, .npy, IDX files, an image, or a folder of images. Raises InputError with the remedy.
    """
    return preprocessing.apply(_read(_found(path), preprocessing, (), note).inputs)


def load_labelled(
    path: str | Path,
    preprocessing: Preprocessing,
    label_names: Sequence[str],
    task: Task,
    targets: Sequence[str] | None = None,
    note: Note = lambda _: None,
) -> Part:
    """Inputs and targets of new data. `targets`: their columns; None: those of the training data.

    Image files are labelled by their folders. Raises InputError, also for a class that the model does not know.
    """
    names = tuple(targets if targets is not None else preprocessing.target_names) or ("target",)
    place = _found(path)
    data = _read(place, preprocessing, names, note)
    if data.targets is None:
        raise InputError(f"'{place}' has no targets to evaluate against; use a table, a .npz file or class folders")
    inputs = preprocessing.apply(data.inputs)
    codes = encode(data.targets, task, label_names, names)
    if len(codes) != len(inputs):
        raise InputError(f"'{place}' has {len(inputs)} inputs, but {len(codes)} targets; each input needs one")
    return Part(inputs, preprocessing.apply_targets(codes), None, np.arange(len(codes)))


@dataclass(frozen=True, eq=False)
class _NewData:
    inputs: np.ndarray | pd.DataFrame
    targets: Any = None


def _found(path: str | Path) -> Path:
    place = Path(path).expanduser()
    return place if place.is_dir() else existing(place)


def _read(place: Path, preprocessing: Preprocessing, targets: tuple[str, ...], note: Note) -> _NewData:
    """`targets` empty: only inputs are wanted."""
    suffix = place.suffix.lower()
    if is_idx(place):
        return _read_idx(place, note)
    if place.is_dir() or suffix in SUFFIXES:
        return _read_images(place, preprocessing, labelled=bool(targets))
    if suffix in (".csv", ".tsv", ".txt", ".parquet", ".pq"):
        return _from_table(_read_table(place, preprocessing, targets), place, preprocessing, targets, note)
    layout = preprocessing.reading.get("layout", "auto")
    tokens = preprocessing.kind == "tokens"
    if suffix == ".npy":
        return _NewData(as_inputs(read_npy(place), tokens=tokens, layout=layout))
    if suffix == ".npz":
        inputs = read_npz(place, choose_key(place, _key(place, preprocessing, "inputs"), INPUT_KEYS, "inputs"))
        answers = None
        if targets:
            answers = read_npz(place, choose_key(place, _key(place, preprocessing, "targets"), TARGET_KEYS, "targets"))
        return _NewData(as_inputs(inputs, tokens=tokens, layout=layout), answers)
    raise InputError(f"'{place}' is no kind of data; use .csv, .tsv, .parquet, .npz, .npy, IDX files, or images")


def _key(place: Path, preprocessing: Preprocessing, option: str) -> str | None:
    """The training data's name of the array, where this file has it too."""
    from modelopt_cli.data.arrays import keys_of

    name = preprocessing.reading.get(option)
    return name if name in keys_of(place) else None


def _read_idx(place: Path, note: Note) -> _NewData:
    if place.is_file():
        return _NewData(as_inputs(read_idx(place), layout="channels_first"))
    files = idx_files(place)
    part = "test" if ("test", "images") in files else "train"
    if len(files) > 2:
        note(f"'{place}' has train and test files; the test files are used")
    images = as_inputs(read_idx(files[part, "images"]), layout="channels_first")
    return _NewData(images, read_idx(files[part, "labels"]))


def _read_images(place: Path, preprocessing: Preprocessing, labelled: bool) -> _NewData:
    if preprocessing.kind != "images":
        raise InputError(f"'{place}' is images, but the model was trained on {preprocessing.kind}")
    reading = preprocessing.reading
    size = None if reading.get("size") is None else (int(reading["size"][0]), int(reading["size"][1]))
    most = int(reading.get("max_pixels", 89_478_485))
    mode = "gray" if preprocessing.shape[0] == 1 else "color"
    if labelled and place.is_dir():
        listed = list_classes(place, least=1)
        images, _ = decode(listed.files, size, mode, most)  # type: ignore[arg-type]
        return _NewData(images, np.array(listed.classes)[listed.targets])
    files = list_images(place) if place.is_dir() else [place]
    return _NewData(decode(files, size, mode, most)[0])  # type: ignore[arg-type]


def _read_table(place: Path, preprocessing: Preprocessing, targets: tuple[str, ...]) -> pd.DataFrame:
    if place.suffix.lower() in (".parquet", ".pq"):
        return read_parquet(place)
    reading = preprocessing.reading
    encoding = reading.get("encoding", "utf-8")
    wanted = {*preprocessing.feature_names, *targets}
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    first = "\t" if place.suffix.lower() == ".tsv" else reading.get("separator", ",")
    separator = max(  # the first of the best
        (first, *_SEPARATORS), key=lambda mark: (len(wanted.intersection(header_of(place, mark, codec))), mark == first)
    )
    return read_csv(place, separator, reading.get("decimal", "."), encoding)


def _from_table(
    frame: pd.DataFrame, place: Path, preprocessing: Preprocessing, targets: tuple[str, ...], note: Note
) -> _NewData:
    if preprocessing.kind != "numbers":
        raise InputError(f"'{place}' is a table, but the model was trained on {preprocessing.kind}; use .npz or .npy")
    names = preprocessing.feature_names
    if not names:  # trained on an array: columns count by their order
        rest = frame.drop(columns=list({*targets, *preprocessing.target_names}), errors="ignore")
        if rest.shape[1] != preprocessing.shape[0]:
            raise InputError(
                f"'{place}' has {rest.shape[1]} columns, but the model takes {preprocessing.shape[0]} numbers"
            )
        inputs: Any = np.stack([number_column(rest[name], str(name)) for name in rest.columns], 1)
    else:
        _check_names(frame, [*names, *targets], place)
        extra = [str(name) for name in frame.columns if name not in {*names, *targets, *preprocessing.target_names}]
        if extra:
            note(f"'{place}': ignored {len(extra)} columns that the model does not use: {', '.join(extra[:10])}")
        inputs = frame[list(names)]
    if targets:
        _check_names(frame, targets, place)
    return _NewData(inputs, frame[list(targets)] if targets else None)


def _check_names(frame: pd.DataFrame, wanted: Sequence[str], place: Path) -> None:
    names = [str(name) for name in frame.columns]
    missing = [name for name in wanted if name not in names]
    if missing:
        listed = ", ".join(f"'{name}'" for name in missing[:10]) + (", ..." if len(missing) > 10 else "")
        has = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(
            f"'{place}' lacks {len(missing)} of the columns that the model was trained on: {listed}."
            f"{did_you_mean(missing[0], names)} It has: {has}"
        )
