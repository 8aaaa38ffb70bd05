"""What an unquoted word in YAML means: the core schema of YAML 1.2 (section 10.3.2), so `no` is text and 1e-3 a number.

Numbers that Python could not read back quickly or at all (more than 400 digits) stay text.
"""

from __future__ import annotations

import re

Scalar = None | bool | int | float | str

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_GROUPED = re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")
_MOST_DIGITS = 400


def resolve(text: str) -> Scalar:
    """The value of the plain scalar `text`."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _MOST_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    return float(text) if _FLOAT.fullmatch(text) else text


def number_in(text: str) -> str | None:
    """How the number that `text` seems to mean is written in YAML 1.2 ('100_000' -> '100000'), or None."""
    bare = text.strip().replace("_", "") if _GROUPED.fullmatch(text.strip()) else text.strip()
    value = resolve(bare)
    return bare if isinstance(value, int | float) and not isinstance(value, bool) else None
