"""Small pieces of HTML for notebooks: text that stays text, no scripts, and colours that suit light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from modelopt_cli.core.readable import cell
from modelopt_cli.core.references import redacted
from modelopt_cli.core.text import one_line

GOOD, BAD, PENDING = "#2f9e64", "#d9534f", "#b8860b"
_LINE = "1px solid rgba(128,128,128,.35)"
_CARD = f"border:{_LINE};border-radius:6px;padding:.6em .9em;margin:.3em 0;max-width:60em;line-height:1.45"
_CELL = f"border:0;border-bottom:{_LINE};background:none;color:inherit;padding:.15em .8em .15em 0"
_LONGEST = 80  # letters of a cell


def plain(value: Any, longest: int = 2_000) -> str:
    """A value as text of HTML: escaped, on one line, cut, without values that came from the environment."""
    return escape(one_line(redacted(cell(value)), longest))


def card(*parts: str) -> str:
    """A frame around the parts; empty ones are left out."""
    return f'<div style="{_CARD}">{"".join(filter(None, parts))}</div>'


def heading(name: str, *facts: str, state: str = "", color: str = "inherit") -> str:
    """A bold name, a state in its colour, and facts beside it. All are texts."""
    coloured = f' <span style="color:{color};font-weight:600">{plain(state)}</span>' if state else ""
    beside = "".join(f" · {plain(fact)}" for fact in facts if fact)
    return f'<div><b>{plain(name)}</b>{coloured}<span style="opacity:.7">{beside}</span></div>'


def paragraph(text: str, *, muted: bool = False) -> str:
    """A paragraph of text; nothing of an empty one."""
    return f'<div style="margin:.35em 0{";opacity:.7" if muted else ""}">{plain(text)}</div>' if text else ""


def figures(rows: Sequence[tuple[str, str, str]]) -> str:
    """(what, value, remark) side by side, the value large."""
    each = [
        f'<div style="margin-right:2em"><div style="opacity:.7;font-size:85%">{plain(what)}</div>'
        f'<div style="font-size:135%;font-weight:600">{plain(value)}</div>'
        f'<div style="opacity:.7;font-size:85%">{plain(remark)}</div></div>'
        for what, value, remark in rows
    ]
    return f'<div style="display:flex;flex-wrap:wrap;margin:.4em 0">{"".join(each)}</div>' if each else ""


def facts(values: Mapping[str, Any]) -> str:
    """A row a fact: its name, its value."""
    return table(("", ""), list(values.items())) if values else ""


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers to the right. Without a head where no column has a name."""
    numbers = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(columns))]
    style = [f"{_CELL};text-align:{'right' if number else 'left'}" for number in numbers]
    head = "".join(
        f'<th style="{each};opacity:.7;font-weight:600">{plain(name, _LONGEST)}</th>'
        for name, each in zip(columns, style, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f'<td style="{each}">{plain(value, _LONGEST)}</td>' for value, each in zip(row, style, strict=True))
        + "</tr>"
        for row in rows
    )
    begins = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    scrolling = "overflow-x:auto;margin:.35em 0"
    return (
        f'<div style="{scrolling}"><table style="border-collapse:collapse;background:none;border:0;margin:0">'
        f"{begins}<tbody>{body}</tbody></table></div>"
    )


def folded(title: str, content: str) -> str:
    """Content that a click shows."""
    return f"<details><summary>{plain(title)}</summary>{content}</details>" if content else ""
