"""The log of a script: all that it writes, in the order in which it arrives, in a file of bounded size.

Output and errors come by two pipes: an error never stands before what was printed before it (script.py sees to it).

The beginning and the end are kept; a line between them says how much was left out. The file can be read while it grows.
A log never ends a trial: where it cannot be written, it ends early, and `problem` says why.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from modelopt_cli.core.references import redacted

HEAD = 256 * 2**10
"""Bytes of the beginning that are kept."""
TAIL = 768 * 2**10
"""Bytes of the end that are kept at least."""
_LONGEST = 2**16  # bytes of a line that are waited for; a longer one is written in parts
_LEFT_OUT = re.compile(rb"\n--- modelopt: ([0-9]{1,18}) bytes are left out here ---\n")


class ScriptLog:
    """Appends to the file at `path`, which need not be there; None: nothing is kept.

    One that is there is of the same trial, begun before: a line says that it was begun again. Values that came in by
    `${NAME}` are written as that reference. Not for several threads at once.
    """

    def __init__(self, path: Path | None, *, head: int = HEAD, tail: int = TAIL) -> None:
        self.problem = ""
        self._path, self._head, self._tail = path, head, tail
        self._descriptor = -1
        self._size = 0  # of the file
        self._begin = 0  # where in it the end that is kept begins; 0: nothing is left out yet
        self._left_out = 0  # bytes
        self._pending: dict[int, bytes] = {}  # stream -> the line that it has not ended yet
        self._last, self._whole = -1, True  # the stream that wrote last, and whether that ended with a line
        if path is not None:
            with self._contained():
                self._open(path)

    @contextlib.contextmanager
    def _contained(self) -> Iterator[None]:
        """End the log where the file cannot be written, and note why; the script goes on."""
        try:
            yield
        except OSError as error:
            self.problem = error.strerror or str(error)
            self._forget()

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o666)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no ordinary file")
        self._size = status.st_size
        if self._size:
            match = _LEFT_OUT.search(os.pread(self._descriptor, self._head + 200, 0))
            if match is not None:
                self._begin, self._left_out = match.end(), int(match[1])
            now = datetime.now().astimezone().isoformat(" ", "seconds")
            self._append(f"\n--- modelopt: the trial was begun again, {now} ---\n".encode())

    def write(self, stream: int, data: bytes) -> None:
        """Take over what came from a stream: its whole lines, and what is longer than a line is waited for."""
        if self._descriptor < 0:
            return
        data = self._pending.pop(stream, b"") + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end:
            self._put(stream, _redacted(data[:end]))
        rest = data[end:]
        if len(rest) > _LONGEST:  # the second half waits: a value may go on in what comes next
            rest = _redacted(rest)
            self._put(stream, rest[: len(rest) // 2])
            rest = rest[len(rest) // 2 :]
        if rest:
            self._pending[stream] = rest

    def flush(self) -> None:
        """Write lines that are not ended: nothing has come for a while, or nothing more will."""
        for stream, data in list(self._pending.items()):
            del self._pending[stream]
            self._put(stream, _redacted(data))

    def close(self) -> None:
        """Write what there is, and let go of the file."""
        self.flush()
        self._forget()

    def _forget(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _put(self, stream: int, data: bytes) -> None:
        """Write lines of a stream; one that another stream has begun is ended before."""
        if self._descriptor < 0 or not data:
            return
        parted = b"\n" if not self._whole and stream != self._last else b""
        self._last, self._whole = stream, data[-1:] in (b"\n", b"\r")
        with self._contained():
            self._append(parted + data)

    def _append(self, data: bytes) -> None:
        most = self._tail // 2 or 1
        for start in range(0, len(data), most):
            self._append_part(data[start : start + most])

    def _append_part(self, data: bytes) -> None:
        size = os.fstat(self._descriptor).st_size
        if size != self._size:  # the script itself has written into it, or emptied it
            self._size, self._begin = size, self._begin if self._begin <= size else 0
        if self._size + len(data) > self._head + 2 * self._tail:
            self._shorten()
        while data:
            written = os.pwrite(self._descriptor, data, self._size)
            self._size += written
            data = data[written:]

    def _shorten(self) -> None:
        """Leave out what is neither of the first nor of the last bytes. In place, so that a full disk is no matter."""
        start = self._size - self._tail
        last = os.pread(self._descriptor, self._tail, start)
        line = last.find(b"\n") + 1  # whole lines, where they are not too long
        if 0 < line <= self._tail // 4:
            last, start = last[line:], start + line
        if not self._begin:
            first = os.pread(self._descriptor, self._head, 0)
            end = first.rfind(b"\n") + 1
            keep = end if end >= self._head * 3 // 4 else len(first)
            cut = keep
        else:
            cut = self._begin
            first = os.pread(self._descriptor, self._begin, 0)
            match = _LEFT_OUT.search(first)
            keep = match.start() + 1 if match is not None and match.end() == self._begin else self._begin
        self._left_out += start - cut
        # The mark begins on a line of its own; the line feed before it is the first part's, where that has one.
        mark = f"--- modelopt: {self._left_out} bytes are left out here ---\n".encode()
        if keep and os.pread(self._descriptor, 1, keep - 1) != b"\n":
            mark = b"\n" + mark
        self._begin = keep + len(mark)
        content = mark + last
        self._size = keep
        while content:
            written = os.pwrite(self._descriptor, content, self._size)
            self._size += written
            content = content[written:]
        os.ftruncate(self._descriptor, self._size)


def _redacted(data: bytes) -> bytes:
    """Without values that came from the environment; all other bytes as they are, text or not."""
    return redacted(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
