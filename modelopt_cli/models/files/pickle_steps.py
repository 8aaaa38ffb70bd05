"""The steps of a pickle, gone through without taking any: each has what it says that it has, and they are not too many.

A pickle is a program of one-byte steps, some of which name the length of what follows. Readers of pickles make room
for such a length before they look whether it is there, so it is compared with what is left of the file first.
"""

from __future__ import annotations

import mmap
import pickletools

from modelopt_cli.core.errors import InputError, RefusedError

MOST_STEPS = 3_000_000  # 30 to 40 a tensor; each may take 100 bytes and half a microsecond
_LONGEST_LINE = 10_000  # bytes: a name, or a number in digits
_ABSURD = 1000  # times what the file holds: no truncated download
_WIDTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_ARGUMENTS = {ord(step.code): 0 if step.arg is None else step.arg.n for step in pickletools.opcodes}
_FIXED = {step: length for step, length in _ARGUMENTS.items() if length >= 0}  # bytes that follow
_COUNTED = {step: _WIDTHS[length] for step, length in _ARGUMENTS.items() if length in _WIDTHS}  # bytes of the length
_CODES = {step.name: ord(step.code) for step in pickletools.opcodes}
_STOP, _FRAME, _PAIRS = _CODES["STOP"], _CODES["FRAME"], (_CODES["GLOBAL"], _CODES["INST"])


def end_of(data: bytes | mmap.mmap, start: int, what: str) -> int:
    """Where the pickle that begins at `start` ends. `what` names it in errors.

    Raises InputError where it is cut off or no pickle, RefusedError where a step names more bytes than there can be, or
    there are too many steps.
    """
    offset, size = start, len(data)
    for _ in range(MOST_STEPS):
        if offset >= size:
            break
        step = data[offset]
        offset += 1
        length = _FIXED.get(step)
        if length is None and (width := _COUNTED.get(step)):
            offset += width
            length = int.from_bytes(data[offset - width : offset], "little")
            _there(length, size - offset, size, what)
        elif length is None and step in _ARGUMENTS:
            length = _lines(data, offset, 2 if step in _PAIRS else 1, what)
        elif length is None:
            break
        elif step == _FRAME:
            framed = int.from_bytes(data[offset : offset + length], "little")
            _there(framed, size - offset - length, size, what)
        elif step == _STOP:
            return offset
        offset += length
    else:
        raise RefusedError(f"{what} takes more than {MOST_STEPS:,} steps to read, so it is refused")
    raise InputError(f"{what} cannot be read as a model: it is truncated, damaged, or no model at all")


def _there(length: int, left: int, size: int, what: str) -> None:
    """A cut-off file is damaged; one that claims a thousand times what it has is a bomb."""
    if length <= left:
        return
    if length > _ABSURD * size:
        raise RefusedError(
            f"{what} asks for memory that it does not hold ({length:,} bytes, of which {max(0, left):,} are there), so "
            "it is refused"
        )
    raise InputError(f"{what} is truncated or damaged: it should go on for {length:,} bytes, but has {max(0, left):,}")


def _lines(data: bytes | mmap.mmap, start: int, lines: int, what: str) -> int:
    """The length of so many lines."""
    offset = start
    for _ in range(lines):
        end = data.find(b"\n", offset, offset + _LONGEST_LINE)
        if end < 0:
            raise InputError(f"{what} cannot be read as a model: it is truncated, damaged, or no model at all")
        offset = end + 1
    return offset - start
