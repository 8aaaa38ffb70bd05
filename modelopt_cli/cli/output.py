"""Where the command line writes: one document on standard output, everything else on standard error.

A command that prints a document (a report as JSON, predictions as CSV) keeps standard output for it alone: whatever a
model's, a script's or a library's code prints meanwhile goes to standard error.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from modelopt_cli.core.text import printable

_document: TextIO | None = None  # standard output, while it is kept for one document


def open_standard_streams() -> None:
    """Make writing possible whatever the shell did: a closed stream becomes /dev/null, and what a stream's encoding
    cannot say becomes a replacement character.
    """
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)  # else the next file that is opened would be the stream
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def one_document() -> Iterator[None]:
    """Keep standard output for `document`; what else is printed, by child processes too, goes to standard error."""
    global _document
    if _document is not None:
        yield
        return
    before, saved = sys.stdout, None
    before.flush()
    if _is_descriptor(before, 1) and _is_descriptor(sys.stderr, 2):
        saved = os.dup(1)
        os.dup2(2, 1)
    _document = before if saved is None else os.fdopen(saved, "w", encoding=before.encoding, errors="replace")
    sys.stdout = sys.stderr
    try:
        yield
        _document.flush()
    finally:
        document, _document, sys.stdout = _document, None, before
        if saved is not None:
            os.dup2(saved, 1)
            with contextlib.suppress(OSError):
                document.close()


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


def document(text: str) -> None:
    """Write (a part of) the command's document to standard output.

    On a terminal, characters that steer it are written out; a file or pipe gets the text as it is.
    """
    stream = sys.stdout if _document is None else _document
    try:
        stream.write(printable(text) if stream.isatty() else text)
        stream.flush()
    except OSError:
        _discard(stream)
        raise


def json_document(text: str) -> None:
    """Write a JSON document. DEL and C1 controls, which JSON leaves as they are, are escaped as JSON can."""
    document("".join(f"\\u{ord(each):04x}" if "\x7f" <= each <= "\x9f" else each for each in text) + "\n")


def line(text: str) -> None:
    """Write a line for people to standard output."""
    sys.stdout.write(printable(text) + "\n")


def discard() -> None:
    """Send what is still buffered nowhere: whoever read our output has gone, or the disk that it went to is full."""
    _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
