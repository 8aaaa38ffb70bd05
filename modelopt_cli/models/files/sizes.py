"""How large a file of weights is, and what compressing it would leave."""

from __future__ import annotations

import zlib
from pathlib import Path

_CHUNK = 1 << 20
_SMALL = 1 << 26  # bytes: up to here a size is measured, not estimated
_SAMPLE = 1 << 17  # zlib looks back over a quarter of that
_SAMPLES = 32


def sizes(path: Path) -> tuple[int, int]:
    """(bytes, bytes after zlib at its fastest) of the file, or of all shards in the folder."""
    files = _files(path)
    return sum(file.stat().st_size for file in files), sum(_packed(file) for file in files)


def estimated(path: Path, *, exact: bool = False) -> bool:
    """Whether `quick_sizes` estimates: above 64 MB, unless an exact size is asked for."""
    return not exact and sum(file.stat().st_size for file in _files(path)) > _SMALL


def quick_sizes(path: Path, *, exact: bool = False) -> tuple[int, int]:
    """`sizes`, but that of a large file after compression is estimated from 32 samples."""
    if not estimated(path, exact=exact):
        return sizes(path)
    files = _files(path)
    plain = sum(file.stat().st_size for file in files)
    samples = [max(1, round(_SAMPLES * file.stat().st_size / plain)) for file in files]
    return plain, sum(_estimate(file, count) for file, count in zip(files, samples, strict=True))


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


def _packed(file: Path) -> int:
    packer, packed = zlib.compressobj(1), 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            packed += len(packer.compress(chunk))
    return packed + len(packer.flush())


def _estimate(file: Path, samples: int) -> int:
    """Bytes after compression, if all of the file is like `samples` pieces of it, evenly spaced."""
    size = file.stat().st_size
    read = packed = 0
    with file.open("rb") as stream:
        for number in range(samples):
            stream.seek(int((number + 0.5) / samples * max(0, size - _SAMPLE)))
            chunk = stream.read(_SAMPLE)
            read, packed = read + len(chunk), packed + len(zlib.compress(chunk, 1))
    return round(size * packed / read) if read else 0
