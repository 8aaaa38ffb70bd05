"""A file of torch's as a stream that compares what is read with the archive's checksums: a flipped bit is noticed.

torch's own reader leaves the checksums alone. Comparing them in a pass of its own would read everything twice, so the
bytes are added up as they are read, while they are in the processor's cache, in a thread beside the reading one.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from modelopt_cli.core.zip_files import Record, check

_PIECE = 1 << 18  # bytes: what a core's cache holds
_WORTH_A_THREAD = 16 * _PIECE


class CheckedStream:
    """What torch's reader asks of a stream. What `finish` has not raised an error of is what was written."""

    def __init__(self, raw: IO[bytes], records: Mapping[str, Record]) -> None:
        self._raw = raw
        self._records = sorted((one for one in records.values() if one.size), key=lambda one: one.start)
        self._starts = [record.start for record in self._records]
        self._sound: set[str] = set()
        self._worker = ThreadPoolExecutor(1) if _idle_core() else None

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        return self._raw.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._raw.tell()

    def readinto(self, target: Any) -> int:
        """As of a file. A record that is read whole, as torch does, is compared with its checksum."""
        view = memoryview(target).cast("B")
        record = self._at(self._raw.tell())
        if record is None or record.deflated or len(view) != record.stored:
            return int(self._raw.readinto(view))  # type: ignore[attr-defined]
        count, checksum = self._add_up(view)
        if count == record.stored and checksum == record.checksum:
            self._sound.add(record.name)
        return count

    def finish(self, data: memoryview, what: str) -> None:
        """Compare what has not been read whole, or was not sound. `data`: the whole file. Raises InputError."""
        for record in self._records:
            if record.name not in self._sound:
                check(data, record, what)

    def close(self) -> None:
        """End the thread; the file stays open."""
        if self._worker is not None:
            self._worker.shutdown()

    def _at(self, offset: int) -> Record | None:
        """The record that begins there."""
        index = bisect_right(self._starts, offset) - 1
        return self._records[index] if index >= 0 and self._starts[index] == offset else None

    def _add_up(self, view: memoryview) -> tuple[int, int]:
        """(bytes read, their checksum). Nothing of `view` is in use any more when it ends."""
        worker = self._worker if len(view) >= _WORTH_A_THREAD else None
        checksum, read = 0, 0
        running: Future[int] | None = None
        try:
            while read < len(view):
                piece = view[read : read + _PIECE]
                count = int(self._raw.readinto(piece))  # type: ignore[attr-defined]
                if not count:
                    break
                read += count
                if worker is None:
                    checksum = zlib.crc32(piece[:count], checksum)
                    continue
                if running is not None:
                    checksum = running.result()
                running = worker.submit(zlib.crc32, piece[:count], checksum)
        finally:
            if running is not None:
                checksum = running.result()
        return read, checksum


def _idle_core() -> bool:
    """Whether a thread would run beside this one, not instead of it."""
    cores = os.cpu_count() or 1
    return cores > 1 and os.getloadavg()[0] < cores - 0.5
