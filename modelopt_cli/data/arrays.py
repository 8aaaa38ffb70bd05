"""Arrays: .npy and .npz files, read without running code or allocating what they do not hold; and what arrays mean."""

from __future__ import annotations

import math
import mmap
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from modelopt_cli.core.errors import InputError, RefusedError, did_you_mean
from modelopt_cli.core.zip_files import MAGIC, Record
from modelopt_cli.core.zip_files import records as zip_records
from modelopt_cli.data.files import check_memory

Layout = Literal["auto", "channels_first", "channels_last"]
INPUT_KEYS = ("inputs", "X", "x", "x_train", "X_train", "data", "images")
TARGET_KEYS = ("targets", "y", "y_train", "target", "labels")
_FREE = 64 * 2**20  # bytes that any packed array may unpack to
_RATIO = 500  # ... and above that, so many times what is stored: deflate alone would allow 1,032
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npy(path: Path) -> np.ndarray:
    """The array in a .npy file. Raises RefusedError (pickled, or claims more than it holds), InputError (damaged)."""
    with _reporting(path), path.open("rb") as file:
        return _read_member(file, path.stat().st_size, f"'{path}'")


def keys_of(path: Path) -> list[str]:
    """Names of the arrays in a .npz file."""
    return [name.removesuffix(".npy") for name in _records(path)]


def read_npz(path: Path, key: str) -> np.ndarray:
    """The array called `key`; the same errors as `read_npy`, and InputError with the nearest name."""
    records = _records(path)
    names = [name.removesuffix(".npy") for name in records]
    if key not in names:
        raise InputError(f"'{path}' has no array '{key}'.{did_you_mean(key, names)} It has: {', '.join(names)}")
    record = records[key + ".npy" if key + ".npy" in records else key]
    if record.size > max(_FREE, _RATIO * record.stored):
        raise RefusedError(
            f"array '{key}' of '{path}' asks for memory that the file does not hold: it unpacks to {record.size:,} "
            f"bytes, more than {_RATIO} times the {record.stored:,} that are stored; save it with numpy.savez if it is "
            "really that empty"
        )
    with _reporting(path), zipfile.ZipFile(path) as archive, archive.open(record.name) as member:
        return _read_member(member, record.size, f"array '{key}' of '{path}'")


def _records(path: Path) -> dict[str, Record]:
    """The records of a .npz file, which lie where a reader would find them whatever it goes by."""
    with _reporting(path), path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"'{path}' is damaged or no numpy file: it is no archive of arrays (.npz)")
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return zip_records(memoryview(memory), f"'{path}'")


def choose_key(path: Path, asked: str | None, usual: Sequence[str], option: str) -> str:
    """`asked`, or the first of the `usual` names that the file has."""
    names = keys_of(path)
    key = asked or next((name for name in usual if name in names), None)
    if key is None:
        raise InputError(f"'{path}' has none of {', '.join(usual)}; set '{option}' to one of: {', '.join(names)}")
    return key


def as_inputs(values: Any, *, tokens: bool = False, layout: Layout = "auto") -> np.ndarray:
    """Any array of N samples in the form that RawData asks for.

    uint8 of three axes or more are images, (N, C, H, W) after this; whole numbers are tokens only on request, else
    numbers. Raises InputError where it holds no numbers or has one axis too few.
    """
    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"inputs hold {array.dtype} values; they must be numbers (text columns: use type csv or parquet)"
        )
    if array.ndim == 0:
        raise InputError("inputs are a single number; they must be (N, ...), one row a sample")
    if array.ndim == 1:
        array = array[:, None]
    if tokens:
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise InputError(f"tokens are {array.dtype} of shape {array.shape}; they must be whole numbers (N, length)")
        return array.astype(np.int64)
    if array.ndim == 2:
        return array.astype(np.float64)
    if array.dtype == np.uint8:
        array = array[:, None] if array.ndim == 3 else array
    elif array.dtype.kind != "f" or array.dtype == np.float16:
        array = array.astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if _channels_last(array, layout) else array


def _channels_last(array: np.ndarray, layout: Layout) -> bool:
    if array.ndim != 4 or layout == "channels_first":
        return False
    return layout == "channels_last" or (array.shape[3] in (1, 3) and array.shape[1] not in (1, 3))


def _read_member(file: IO[bytes], size: int, what: str) -> np.ndarray:
    start = file.read(8)
    version = (start[6], start[7]) if len(start) == 8 else (0, 0)
    if start[:6] != b"\x93NUMPY" or version not in _HEADERS:
        raise InputError(f"{what} is no array that numpy wrote (.npy format 1 or 2)")
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise RefusedError(f"{what} is pickled Python objects, which run code when read; save it as numbers or text")
    if min(shape, default=0) < 0:
        raise InputError(f"{what} is damaged: its shape is {shape}; copy or download it again")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > size:
        raise RefusedError(f"{what} claims {claimed:,} bytes, but the file holds {size:,}")
    check_memory(claimed, what)
    content = file.read(claimed)
    if len(content) < claimed:
        raise InputError(f"{what} is cut off: {len(content):,} bytes of {claimed:,}; copy or download it again")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"'{path}' is damaged or no numpy file: {error}") from None
