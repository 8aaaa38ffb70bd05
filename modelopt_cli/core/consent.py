"""Whose code may run. A model file may name code: an import path, an installed package, a type. It is run only where
the user said so, since whoever wrote the file chose what to name.

The user says so for a file (`--trust-code`, `trust_code: true`, `trust_code=True`), for all (the variable
MODELOPT_TRUST_CODE), or by an experiment file that names the same code itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelopt_cli.core.errors import RefusedError

VARIABLE = "MODELOPT_TRUST_CODE"
_YES = ("1", "true", "yes")
_SHOWN = 120  # characters of arguments in a message


@dataclass(frozen=True)
class Code:
    """Code outside modelopt that a section names: `module:callable`, its keyword arguments, where it is looked for."""

    target: str
    arguments: Mapping[str, Any]
    folder: str

    def __str__(self) -> str:
        shown = ascii(dict(self.arguments))
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        return f"target {self.target!r}" + (f" with the arguments {shown}" if self.arguments else "")


@dataclass(frozen=True)
class Consent:
    """What the user agreed to: everything that a file names, or what the experiment file names itself."""

    everything: bool = False
    code: tuple[Code, ...] = ()  # of the experiment's sections
    strategies: frozenset[tuple[str, str]] = frozenset()  # (family, type) of other packages in the experiment
    estimators: frozenset[tuple[str, str]] = frozenset()  # (dotted path, folder to import from) in the experiment

    @property
    def whole(self) -> bool:
        """Whether whatever a file names may run."""
        return self.everything or os.environ.get(VARIABLE, "").strip().lower() in _YES

    def also(self, everything: bool) -> Consent:
        """This, and everything where `everything` is True."""
        return replace(self, everything=self.everything or everything)

    def agreed(self, code: Code) -> Code | None:
        """The code that may run for what a model file names; None: none may.

        Code that the experiment file names runs as that file has it, from its own folder, wherever the model file says
        it lies. Its arguments must be the same but for numbers, such as a width, which are the model file's.
        """
        same = [one for one in self.code if one.target == code.target and _alike(one.arguments, code.arguments)]
        if same:
            exact = [one for one in same if (one.folder, one.arguments) == (code.folder, code.arguments)]
            own = (exact or same)[0]
            return replace(own, arguments=_with_numbers(own.arguments, code.arguments))
        return code if self.whole else None


NOTHING = Consent()


def refusal(path: str | Path, what: str, more: str = "") -> RefusedError:
    """The error for a file that names code which the user did not agree to. `more`: another remedy."""
    name = Path(path).with_suffix(".pt2").name
    return RefusedError(
        f"{path} would run code that it names: {what}; refused, and nothing was imported or called. If you trust "
        "whoever made the file, allow it: --trust-code (in an experiment file trust_code: true beside its path, in "
        f"Python trust_code=True, for everything {VARIABLE}=1){more}. A .pt2 needs no code: whoever has it makes one "
        f"with: modelopt export {Path(path).name} {name} --trust-code"
    )


def _alike(one: Any, other: Any) -> bool:
    """Equal but for numbers: how large something is may differ, what is read or called may not.

    `other`, the file's, may have a reference (`${NAME}`) for what came from the environment.
    """
    if isinstance(one, str) and isinstance(other, str) and "${" in other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if all(map(_is_number, (*one, *other))):
            return True
        return len(one) == len(other) and all(map(_alike, one, other))
    return (_is_number(one) and _is_number(other)) or (type(one) is type(other) and bool(one == other))


def _with_numbers(one: Any, other: Any) -> Any:
    """`one` with the numbers of `other`, which is alike."""
    if isinstance(one, Mapping):
        return {key: _with_numbers(value, other[key]) for key, value in one.items()}
    if isinstance(one, list | tuple):
        if all(map(_is_number, (*one, *other))):
            return type(one)(other)
        return type(one)(_with_numbers(*pair) for pair in zip(one, other, strict=True))
    return other if _is_number(one) else one


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
