"""Placeholders in the words of a command: `{lr}`, `{nesterov?--nesterov}`, `{amp?--amp|--no-amp}`.

`{name}` stands for a parameter's value. `{name?words}` stands for the words where the parameter is true, and for
nothing where it is false; `{name?these|those}` for those then. `{{` and `}}` are braces. There is no shell: a word
stays one word, but for the words of a condition that is a whole word itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

TRIAL_DIR = "trial_dir"
"""The placeholder that stands for a folder of the trial's own."""

_TOKENS = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_FORMS = "write {name}, {name?words}, {name?words|others}, or {{ and }} for literal braces"


@dataclass(frozen=True)
class Placeholder:
    """Stands for the value of `name`; with `choice`, for the first text where it is true, else for the second."""

    name: str
    choice: tuple[str, str] | None = None

    def text(self, value: object) -> str:
        """What it is replaced by, for a value that is not null."""
        if self.choice is not None:
            return self.choice[0] if value else self.choice[1]
        return value if isinstance(value, str) else json.dumps(value)


Piece = str | Placeholder


def pieces(word: str) -> list[Piece]:
    """A word's literal texts and placeholders, in order.

    Raises ValueError for a lone brace and for what is no placeholder, such as {lr:.3f}.
    """
    parts: list[Piece] = []
    for token in _TOKENS.findall(word):
        if token in ("{", "}"):
            raise ValueError(f"argv: '{word}' has a single brace; write {{{{ or }}}} for a literal one")
        parts.append(token[0] if token in ("{{", "}}") else _placeholder(token, word) if token[0] == "{" else token)
    return parts


def _placeholder(token: str, word: str) -> Placeholder:
    name, asks, texts = token[1:-1].partition("?")
    first, _, second = texts.partition("|")
    if not name.isidentifier():
        raise ValueError(f"argv: the placeholder {token} in '{word}' is no plain name; {_FORMS}")
    if asks and (not texts.strip("| ") or "|" in second):
        raise ValueError(
            f"argv: the condition {token} in '{word}' must name the words for true, and after one | those for false; "
            f"write {{{name}?--{name}}} or {{{name}?--{name}|--no-{name}}}"
        )
    return Placeholder(name, (first, second) if asks else None)


def placeholders(words: Sequence[str]) -> Iterator[tuple[Placeholder, str]]:
    """(placeholder, word that it stands in) of all words. Raises ValueError; see `pieces`."""
    for word in words:
        for piece in pieces(word):
            if isinstance(piece, Placeholder):
                yield piece, word


def filled(words: Sequence[str], values: Mapping[str, object]) -> list[str]:
    """`words` with their placeholders replaced.

    A word with a placeholder whose value is null is left out; where it is that `{name}` alone, so is the option before
    it (`"--clip", "{clip}"`). A condition that is a whole word gives as many words as it holds, perhaps none.
    """
    made: list[str] = []
    for at, word in enumerate(words):
        parts = pieces(word)
        if any(isinstance(part, Placeholder) and values[part.name] is None for part in parts):
            if at > 1 and _is_value(parts) and _is_option(words[at - 1]):
                made.pop()
            continue
        text = "".join(part.text(values[part.name]) if isinstance(part, Placeholder) else part for part in parts)
        made += text.split() if _is_condition(parts) else [text]
    return made


def _is_value(parts: Sequence[Piece]) -> bool:
    """Whether a word is `{name}` and nothing else."""
    return len(parts) == 1 and isinstance(parts[0], Placeholder) and parts[0].choice is None


def _is_condition(parts: Sequence[Piece]) -> bool:
    return len(parts) == 1 and isinstance(parts[0], Placeholder) and parts[0].choice is not None


def _is_option(word: str) -> bool:
    """Whether a word, which holds no placeholder, takes a value: `-c` and `--clip`, but not `--`, `--a=1` or `-1`."""
    return bool(re.fullmatch(r"--?[^\W\d][^={}]*", word))
