"""The archive that skops saves an estimator in, looked at before skops reads it: no more memory than it holds.

skops writes its records as they are, not packed: a schema in JSON and an array of numpy's each, or an archive of such
(sparse matrices). None of them may claim more than there is.
"""

from __future__ import annotations

import io
import math
import zlib

from modelopt_cli.core import zip_files
from modelopt_cli.core.errors import InputError, RefusedError

_INNER = 1 << 28  # bytes that an inner archive may unpack to: sparse matrices are packed
_HEADER_LIMIT = 10_000


def check_estimator(data: bytes, what: str) -> None:
    """Raise InputError where the archive is damaged, RefusedError where it claims more than it holds."""
    _check(memoryview(data), what, len(data))


def _check(data: memoryview, what: str, most: int) -> None:
    records = zip_files.records(data, what)
    total = sum(record.size for record in records.values())
    if total > most:
        raise RefusedError(
            f"{what} asks for memory that it does not hold (its entries unpack to {total:,} bytes, of {len(data):,}), "
            "so it is refused"
        )
    for record in records.values():
        zip_files.check(data, record, what)
        if record.name.endswith(".npy"):
            _check_array(zip_files.content(data, record, what), f"{record.name[:100]} in {what}")
        elif record.name.endswith(".npz") and most == len(data):  # one level only
            inner = zip_files.content(data, record, what)
            _check(memoryview(inner), f"{record.name[:100]} in {what}", max(len(inner), _INNER))


def _check_array(data: bytes, what: str) -> None:
    from numpy.lib import format as npy

    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream, max_header_size=_HEADER_LIMIT)
    except (ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{what} is damaged: {error}") from None
    claimed, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if dtype.hasobject:
        raise RefusedError(f"{what} is pickled Python objects, which run code when read, so it is refused")
    if claimed > there or max(shape, default=0) >= 1 << 62:
        raise RefusedError(f"{what} asks for memory that it does not hold ({claimed:,} bytes of {there:,}): refused")
