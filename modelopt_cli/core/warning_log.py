"""Python's warnings, kept for the report of the run that they came up in instead of being printed and forgotten."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


class WarningLog:
    """Texts of warnings in the order in which they came, each once."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: dict[str, None] = dict.fromkeys(texts)

    @property
    def texts(self) -> list[str]:
        """What was told so far."""
        return list(self._texts)

    def add(self, texts: Iterable[str]) -> None:
        """Note texts that are not there yet."""
        self._texts |= dict.fromkeys(texts)

    @contextmanager
    def recording(self, *, every: bool = False) -> Iterator[None]:
        """Warnings that the code inside gives go here, and nowhere else, unless it fails: then they are shown too.

        `every`: also what Python has shown before or is told to leave out, but for those meant for developers of
        libraries; else what it would print.
        """
        caught: list[warnings.WarningMessage] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                if every:
                    warnings.simplefilter("always")
                    for category in _FOR_DEVELOPERS:
                        warnings.simplefilter("ignore", category)
                yield
        except BaseException:  # perhaps there will be no report to tell them
            for each in caught:
                warnings.showwarning(each.message, each.category, each.filename, each.lineno)
            raise
        finally:
            self.add(_text(each) for each in caught)


def _text(warning: warnings.WarningMessage) -> str:
    """Its category and first line."""
    return f"{warning.category.__name__}: {str(warning.message).strip().partition(chr(10))[0]}"
