"""`${NAME}` and `${NAME:-default}` in an experiment file: environment variables. `$${` stands for `${` itself."""

from __future__ import annotations

import os
import re

_REFERENCE = re.compile(r"\$(\$\{)|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|([^}]*\}?))")


def substitute(text: str) -> str:
    """`text` with its references replaced; the default also stands in for an empty variable, as in a shell.

    Raises ValueError for a variable that is not set and has no default, and for what is no reference.
    """
    return _REFERENCE.sub(_value, text) if "${" in text else text


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
