"""The console that everything is shown on: text from outside cannot steer the terminal through it."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from modelopt_cli.core.text import message_lines, printable


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
    text = Text.assemble(("error: ", "bold red"), message_lines(message))
    console(stderr=True, soft_wrap=True).print(text)
