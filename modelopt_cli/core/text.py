"""Text from files, scripts and other programs, made fit to be shown: nothing in it steers a terminal, and it ends."""

from __future__ import annotations

import re

LONGEST_LINE = 2_000
"""Characters of one line of a message, however it came about."""

# C0 (but for tab and line feed), DEL and C1 steer terminals; the others turn the direction of what follows, or break
# lines where no line feed is. Lone surrogates cannot be encoded at all.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""`text` with every character that steers a terminal written out: \x1b, \x07, \u202e. Line feeds and tabs stay."""
    return _UNFIT.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def cut(text: str, limit: int) -> str:
    """`text`; of a longer one its beginning, how many characters are left out, and its end (where a rule stands)."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]} ... ({len(text) - head - tail:,} characters left out) ... {text[-tail:]}"


def one_line(text: str, limit: int = 300) -> str:
    """A value from outside as part of a line: its line feeds written out, too, and cut."""
    return printable(cut(text, limit)).replace("\n", "\\n").replace("\t", "\\t")


def message_lines(text: str) -> str:
    """A whole message: each line printable and cut."""
    return "\n".join(cut(printable(line), LONGEST_LINE) for line in text.split("\n"))
