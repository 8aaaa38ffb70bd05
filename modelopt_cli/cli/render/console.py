"""The console that everything is shown on: text from outside cannot steer the terminal through it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from modelopt_cli.core.text import message_lines, printable

# Colours that can be read on black and on white: a terminal's own yellow, cyan and green are made for one of them.
GOOD = "color(28)"
BAD = "bold color(160)"
WARNING = "color(166)"
NAME = "color(31)"


class SafeConsole(Console):
    """rich's console, with control characters in texts written out; rich's own control codes are kept."""

    def on_broken_pipe(self) -> None:
        """Whoever read our output has gone. Not rich's exit code of 1: guard.py ends the command as a shell expects."""
        raise BrokenPipeError(errno.EPIPE, "the reader has gone")

    def render_str(self, text: str, **options: Any) -> Text:
        """A plain text, written out before it is laid out, so that columns fit."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of `renderable`."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def console(*, stderr: bool = False, **options: Any) -> Console:
    """For results (standard output) or for progress and errors (`stderr`). Texts are shown as they are: no markup."""
    return SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False, **options)


def error(message: str) -> None:
    """One clear message on standard error."""
    hanging(console(stderr=True), "error: ", message_lines(message), BAD, flush=True)


def hanging(console: Console, label: str, text: str | Text, style: str = "dim", *, flush: bool = False) -> None:
    """A label and a text, on a terminal broken between words and continued below the text (`flush`: the label).

    A word that is wider than the terminal, such as a path, stays whole, so that it can be copied; so do lines of the
    text that begin with a space, such as excerpts of a file. What is no terminal gets the text in one line, to be
    searched.
    """
    body = text if isinstance(text, Text) else Text(printable(text))
    if not console.is_terminal:
        console.print(Text.assemble((label, style), body), soft_wrap=True)
        return
    start = 0 if flush else len(label)
    lines: list[Text] = []
    for line in (Text.assemble((label, style), body) if flush else body).split("\n", allow_blank=True):
        kept = line.plain.startswith(" ") or not line.plain
        lines += [line] if kept else _between_words(line, max(20, console.width - start))
    for number, line in enumerate(lines):
        before = Text("" if flush else label if number == 0 else " " * start, style)
        console.print(Text.assemble(before, line), soft_wrap=True)


def _between_words(line: Text, width: int) -> list[Text]:
    """The line broken at its spaces; rich would break a long word, too."""
    breaks, taken = [], 0
    for match in re.finditer(r"[^ ]+ *", line.plain):
        if taken and taken + cell_len(match[0].rstrip()) > width:
            breaks.append(match.start())
            taken = 0
        taken += cell_len(match[0])
    pieces = list(line.divide(breaks))
    for piece in pieces:
        piece.rstrip()
    return pieces
