"""MNIST's own file format (IDX), plain or gzipped, read without allocating more than the file holds.

Format: two zero bytes, a type byte, the number of dimensions, each dimension as a big-endian uint32, then the values,
big-endian (http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from modelopt_cli.core.errors import InputError, RefusedError
from modelopt_cli.core.signatures import FileKind
from modelopt_cli.data.files import check_memory, read_bytes

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_FILE = re.compile(r"^(?P<set>.*?)[-._]?(?P<what>images|labels)[-.]idx\d-ubyte(?P<zip>\.gz)?$")
_MOST_DEFLATED = 1100  # deflate packs at most 1032 bytes into one


@dataclass(frozen=True, eq=False)
class IdxFolder:
    """Images and labels of the train files, followed by those of the test (t10k) files."""

    images: np.ndarray  # (N, ...)
    labels: np.ndarray  # (N,)
    test: int  # how many of them, at the end, are from the test files


def is_idx(path: Path) -> bool:
    """Whether a file's name is that of an IDX file, or a folder holds such files."""
    if path.is_dir():
        return any(_FILE.match(item.name) for item in path.iterdir())
    return bool(_FILE.match(path.name))


def idx_files(folder: Path) -> dict[tuple[str, str], Path]:
    """(train | test, images | labels) -> file; a plain file is preferred to its gzipped copy."""
    files: dict[tuple[str, str], Path] = {}
    for item in sorted(folder.iterdir(), reverse=True):  # `name` after `name.gz`, so that it wins
        match = _FILE.match(item.name)
        if match and item.is_file():
            files["train" if "train" in match["set"].lower() else "test", match["what"]] = item
    for part in {part for part, _ in files}:
        for what in ("images", "labels"):
            if (part, what) not in files:
                raise InputError(f"'{folder}' has IDX files of the {part} set, but none with its {what}")
    if not files:
        names = ", ".join(sorted(item.name for item in folder.iterdir())[:5]) or "nothing"
        raise InputError(
            f"'{folder}' holds no IDX files, e.g. train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz; "
            f"it holds: {names}"
        )
    return files


def read_folder(folder: Path) -> IdxFolder:
    """All files of a folder, read in parallel (zlib and numpy release the interpreter's lock)."""
    files = idx_files(folder)
    with ThreadPoolExecutor(4) as pool:
        arrays = dict(zip(files, pool.map(read_idx, files.values()), strict=True))
    parts = [part for part in ("train", "test") if (part, "images") in arrays]
    for part in parts:
        images, labels = arrays[part, "images"], arrays[part, "labels"]
        if labels.ndim != 1 or len(images) != len(labels):
            raise InputError(
                f"'{folder}': the {part} files have {len(images)} images, but labels of shape {labels.shape}"
            )
    shapes = {arrays[part, "images"].shape[1:] for part in parts}
    if len(shapes) > 1:
        raise InputError(f"'{folder}': train and test images differ in shape: {sorted(shapes)}")
    return IdxFolder(
        images=np.concatenate([arrays[part, "images"] for part in parts]),
        labels=np.concatenate([arrays[part, "labels"] for part in parts]),
        test=len(arrays["test", "labels"]) if parts == ["train", "test"] else 0,
    )


def read_idx(path: Path) -> np.ndarray:
    """The array in one file. Raises InputError (damaged, cut off) or RefusedError (claims what it cannot hold)."""
    content = read_bytes(path)
    zipped = FileKind.GZIP.matches(content)
    header = _inflate(content, 4 + 4 * 255, path) if zipped else content
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _TYPES or header[3] == 0:
        raise InputError(f"'{path}' is no IDX file: it starts with {header[:4].hex(' ') or 'nothing'}")
    start = 4 + 4 * header[3]
    if len(header) < start:
        raise InputError(f"'{path}' is cut off in its header; copy or download it again")
    shape = struct.unpack(f">{header[3]}I", header[4:start])
    dtype = np.dtype(_TYPES[header[2]])
    claimed = start + math.prod(shape) * dtype.itemsize
    most = _MOST_DEFLATED * len(content) + 1024 if zipped else len(content)
    if claimed > most and (zipped or claimed > 4 * most):
        raise RefusedError(f"'{path}' claims {claimed:,} bytes ({shape}), but {len(content):,} bytes cannot hold them")
    if zipped:
        check_memory(claimed, f"'{path}'")
        content = _inflate(content, claimed + 1, path)
    if len(content) != claimed:
        state = "is cut off" if len(content) < claimed else "holds more than its header says"
        raise InputError(f"'{path}' {state}: {claimed:,} bytes expected; copy or download it again")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _inflate(content: bytes, most: int, path: Path) -> bytes:
    """The first `most` bytes of gzipped `content`; fewer where it ends."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        return inflater.decompress(content, most)
    except zlib.error as error:
        raise InputError(f"'{path}' is damaged: {error}; copy or download it again") from None
