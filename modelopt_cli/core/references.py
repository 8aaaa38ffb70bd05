"""`${NAME}` and `${NAME:-default}`: environment variables in an experiment file. Their values stay out of all files.

`$${` stands for `${` itself. What came in by a reference is written as that reference again: in experiment.yaml and
best.yaml, and in the sections of a model.pt. In free text (a script's last line, a reason) a value that this process
got from the environment is replaced by the reference, too; but not where it only names something (the run, a metric).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_REFERENCE = re.compile(r"\$(\$\{)|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([^}]*\}?))")
_STORED = re.compile(r"\$\{\}\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHORTEST = 6
"""Characters from which on a value counts as a secret wherever it stands; shorter ones do at their own place alone."""

Path = tuple[str | int, ...]


class Written(str):
    """A text that stands in a file as it is, references included."""

    __slots__ = ("plain",)

    plain: bool
    """Without quotes, since what comes in may be a number."""

    def __new__(cls, text: str, plain: bool = False) -> Written:
        """`text`, to be written as it is."""
        made = super().__new__(cls, text)
        made.plain = plain
        return made

    def __getnewargs__(self) -> tuple[str, bool]:  # type: ignore[override]
        return str(self), self.plain


@dataclass(frozen=True)
class Reference:
    """A value of an experiment file that came in, wholly or in part, from the environment."""

    text: str
    """As the file has it: `Bearer ${TOKEN}`."""
    value: Any = field(repr=False)
    """What it stands for now."""
    variables: Mapping[str, str] = field(repr=False)
    """Values of the variables in it that are set (a default in the file is no secret)."""
    plain: bool = False

    @property
    def secret(self) -> bool:
        """Texts, and numbers of many digits: `epochs: ${EPOCHS}` is a setting, and is kept as what it was."""
        if not self.variables:
            return False
        return isinstance(self.value, str) or (
            type(self.value) in (int, float) and max(map(len, self.variables.values())) >= _SHORTEST
        )

    def written(self) -> Written:
        """For a file."""
        return Written(self.text, self.plain)


def substitute(text: str) -> str:
    """`text` with its references replaced; the default also stands in for an empty variable, as in a shell.

    Raises ValueError for a variable that is not set and has no default, and for what is no reference.
    """
    return _REFERENCE.sub(_value, text) if "${" in text else text


def variables_in(text: str) -> dict[str, str]:
    """Name -> value of the variables that `text` refers to and that are set."""
    names = [match[2] for match in _REFERENCE.finditer(text) if match[2]] if "${" in text else []
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def escape(text: str) -> str:
    """`text` as a file must have it so that it reads as it is."""
    return text.replace("${", "$${")


def _value(match: re.Match[str]) -> str:
    escaped, name, default, broken = match.groups()
    if escaped:
        return "${"
    if broken is not None:
        raise ValueError(
            f"'${{{broken}' is no reference to an environment variable; write ${{NAME}} or ${{NAME:-default}}"
        )
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ValueError(
            f"the environment variable {name} is not set; set it ({name}=... modelopt ...) or write a default: "
            f"${{{name}:-default}}"
        )
    return value


def put_back(content: Any, references: Mapping[Path, Reference], above: Path = ()) -> Any:
    """Plain nested values with references in place of what came in by them.

    At a reference's own path its value is replaced, whatever it is (also where a bare name was spelled out as
    {type: name}, or a path was made absolute); elsewhere every text that holds a long enough value.
    """
    if isinstance(content, Mapping):
        return {key: put_back(item, references, (*above, key)) for key, item in content.items()}
    if isinstance(content, Sequence) and not isinstance(content, str):
        return [put_back(item, references, (*above, index)) for index, item in enumerate(content)]
    own = references.get(above) or (references.get(above[:-1]) if above and above[-1] in ("type", "path") else None)
    if own is not None and own.secret and content == own.value and type(content) is type(own.value):
        return own.written()
    return _masked(content, references) if isinstance(content, str) else content


def _masked(text: str, references: Mapping[Path, Reference]) -> str:
    masked = escape(text)
    for path, reference in references.items():
        if _is_name(path):
            continue
        if reference.secret and isinstance(reference.value, str) and len(reference.value) >= _SHORTEST:
            masked = masked.replace(escape(reference.value), reference.text)
    for name, value in sorted(_distinct(references).items(), key=lambda item: -len(item[1])):
        masked = masked.replace(escape(value), f"${{{name}}}")
    return text if masked == escape(text) else Written(masked)


def _distinct(references: Mapping[Path, Reference]) -> dict[str, str]:
    return {
        name: value
        for path, reference in references.items()
        if reference.secret and not _is_name(path)
        for name, value in reference.variables.items()
        if len(value) >= _SHORTEST
    }


_NAMES = frozenset({"name", "seed", "seeds", "device", "gates", "evaluation"})
_NAMES_OF_A_SEARCH = frozenset({"objective", "constraints", "stop_when", "workflow", "executor"})


def _is_name(path: Path) -> bool:
    """Whether what stands at `path` names the run, its results or a strategy: it is a file's vocabulary, no secret,
    and files that spelled it otherwise would lose the folder, or the column, that they speak of.
    """
    if path[-1:] == ("type",) or (path[:1] == ("tuning",) and path[1:2] and path[1] in _NAMES_OF_A_SEARCH):
        return True
    return bool(path) and path[0] in _NAMES


def digest(value: str) -> str:
    """A salted, slow digest, from which a short value cannot be guessed by the million."""
    salt = os.urandom(16)
    return f"scrypt:{salt.hex()}:{_scrypt(value, salt)}"


def is_of(value: str, kept: str) -> bool:
    """Whether `kept` is the digest of `value`."""
    _, salt, hashed = kept.split(":")
    return hmac.compare_digest(hashed, _scrypt(value, bytes.fromhex(salt)))


def _scrypt(value: str, salt: bytes) -> str:
    return hashlib.scrypt(value.encode(), salt=salt, n=2**14, r=8, p=1, dklen=24).hex()


_known: dict[str, str] = {}  # what references of this process's experiments brought in: name -> value


def remember(references: Mapping[Path, Reference]) -> None:
    """From here on `redacted` knows these values."""
    for name, value in _distinct(references).items():
        if not _is_path(value):
            _known[name] = value


def _is_path(value: str) -> bool:
    """Places are no secrets, and reports must be able to name them."""
    return value.startswith(("/", "./", "../", "~")) or os.path.exists(value)  # noqa: PTH110


def redacted(text: str) -> str:
    """`text` with `${NAME}` in place of every remembered value, and of every line of one that has several."""
    names = _names()
    return _any_of(names).sub(lambda match: f"${{{names[match[0]]}}}", text) if names else text


def _names() -> dict[str, str]:
    """Remembered value, or line of one -> the variable's name."""
    names: dict[str, str] = {}
    for name, value in _known.items():
        for part in (value, *value.splitlines()):
            if len(part) >= _SHORTEST:
                names.setdefault(part, name)
    return names


def _any_of(texts: Collection[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))


def without_values(content: Any) -> Any:
    """Plain nested values with every text, keys included, `redacted`.

    Before they are written as JSON or CSV, not after: these write quotes and line feeds otherwise, and a number in the
    file may have a value's digits.
    """
    return _each_text(content, redacted) if _known else content


_LITERAL = "${}{"  # how a `${` that was there before is stored; no reference reads so


def stored(content: Any) -> Any:
    """`without_values`, such that `restored` gives the content again: for what is read back to be gone on with."""
    names = _names()
    if not names:
        return content
    pattern = _any_of([*names, "${"])

    def reference(match: re.Match[str]) -> str:
        return f"${{{names[match[0]]}}}" if match[0] in names else _LITERAL

    return _each_text(content, lambda text: pattern.sub(reference, text))


def restored(content: Any) -> Any:
    """What was `stored`, with the remembered values in place of their references."""

    def value(match: re.Match[str]) -> str:
        return "${" if match[1] is None else _known.get(match[1], match[0])

    return _each_text(content, lambda text: _STORED.sub(value, text) if "${" in text else text) if _known else content


def _each_text(content: Any, change: Callable[[str], str]) -> Any:
    if isinstance(content, str):
        return change(content)
    if isinstance(content, Mapping):
        return {_each_text(key, change): _each_text(value, change) for key, value in content.items()}
    return [_each_text(item, change) for item in content] if isinstance(content, list | tuple) else content
