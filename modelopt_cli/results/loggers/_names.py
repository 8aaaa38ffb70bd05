"""Names that a package takes only some characters of, mapped so that two that differ stay apart."""

from __future__ import annotations

import re


class Names:
    """Gives each text a name made of allowed characters, the same one each time, no two texts the same."""

    def __init__(self, odd: str, limit: int, instead: str = "_") -> None:
        """`odd`: a pattern of what is not taken, which becomes `instead`. `limit`: characters of a name."""
        self._odd, self._limit, self._instead = re.compile(odd), limit, instead
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self.changed: dict[str, str] = {}  # text -> name, where they differ

    def of(self, text: str) -> str:
        """The name of a text."""
        if text in self._names:
            return self._names[text]
        plain = self._odd.sub(self._instead, text)[: self._limit] or self._instead
        name, number = plain, 2
        while name in self._taken:
            ending = f"_{number}"
            name, number = plain[: self._limit - len(ending)] + ending, number + 1
        self._names[text] = name
        self._taken.add(name)
        if name != text:
            self.changed[text] = name
        return name


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters; an ellipsis says that there were more."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
