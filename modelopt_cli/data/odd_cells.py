"""Columns that are text though most of their cells are numbers: what the odd cells are, where, and what to do.

One `?` among 300 numbers makes 300 categories of them, from which nothing can be learned. So does a mark between
thousands, which is no odd cell but another notation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from modelopt_cli.data.columns import Notation, Where, shown

_OTHERS = (
    *(Notation(".", ","), Notation(",", "."), Notation(".", " "), Notation(",", " "), Notation(".", "'")),
    *(Notation(",", None), Notation(".", None)),
)
_SIGNS = "$€£¥%"
_MOST_TEXTS, _MOST_ROWS = 5, 3


@dataclass(frozen=True)
class OddCells:
    """Of a text column: `numbers` of `cells` are numbers in `notation`, the others are `odd` (text -> rows)."""

    cells: int
    numbers: int
    notation: Notation
    usual: Notation  # the file's
    signs: bool  # whether there is a currency or percent sign beside numbers
    odd: dict[str, list[int]]
    example: tuple[str, int]  # a number in that notation, and its row
    quoted: bool = False  # whether some of the numbers are texts, and others are typed as numbers

    @property
    def rows(self) -> list[int]:
        """The rows that `told` names."""
        listed = list(self.odd.values())[:_MOST_TEXTS]
        return [self.example[1], *(row for rows in listed for row in rows[:_MOST_ROWS])]

    def told(self, where: Where) -> str:
        """What the column holds, in words."""
        how = " with a sign" if self.signs else " in another notation" if self.notation != self.usual else ""
        how = how or (", some of them in quotes" if self.quoted else "")
        text = f"{self.numbers} of {self.cells} cells are numbers{how}"
        if how:
            text += f" such as {shown(self.example[0])} ({where(self.example[1])})"
        if not self.odd:
            return text
        listed = [f"{shown(cell)} ({_places(rows, where)})" for cell, rows in list(self.odd.items())[:_MOST_TEXTS]]
        more = len(self.odd) - _MOST_TEXTS
        return f"{text}; {', '.join(listed)}{f' and {more} other texts' * (more > 0)} not"

    def remedies(self) -> list[str]:
        """What to write so that the column is read as numbers."""
        remedies = []
        if self.signs:
            remedies.append("take the sign out of the cells")
        elif self.notation != self.usual:
            decimal = (
                [] if self.notation.decimal == self.usual.decimal else [f'data.decimal: "{self.notation.decimal}"']
            )
            thousands = [] if self.notation.thousands is None else [f'data.thousands: "{self.notation.thousands}"']
            remedies.append(f"write {' and '.join([*decimal, *thousands])}")
        if self.quoted:
            remedies.append("take the quotes off the numbers")
        if self.odd:
            texts = [cell if len(cell) <= 40 else cell[:40] + "…" for cell in list(self.odd)[:_MOST_TEXTS]]
            listed = json.dumps(texts, ensure_ascii=False)[:-1] + (", ...]" if len(self.odd) > _MOST_TEXTS else "]")
            means = "they mean" if len(self.odd) > 1 else "it means"
            remedies.append(
                f"if {means} a missing value write data.missing_values: {listed} (it replaces the usual list, so add "
                "what else is missing in the file, such as NA)"
            )
        return remedies


def odd_cells(column: pd.Series, notation: Notation) -> OddCells | None:
    """None where the column is not mostly numbers, however written."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return None
    rows = np.flatnonzero(column.notna().to_numpy(bool))
    present = column.iloc[rows].tolist()
    if not any(isinstance(cell, str) for cell in present[:1000]) and not any(isinstance(cell, str) for cell in present):
        return None
    codes, different = pd.factorize(np.array([str(cell) for cell in present], object))  # (N,), the different cells
    counts = np.bincount(codes, minlength=len(different))
    texts = [str(cell) for cell in different]

    def share(numeric: np.ndarray) -> int:
        return int(counts[numeric].sum())

    if share(np.array([any(letter.isdigit() for letter in text) for text in texts])) * 2 <= len(rows):
        return None
    plain = ~np.isnan(notation.numbers(texts))
    best, chosen, signs = plain, notation, False
    for other in _OTHERS:
        numeric = ~np.isnan(other.numbers(texts))
        if share(numeric) > share(best):
            best, chosen = numeric, other
    bare = [text.strip().strip(_SIGNS).strip() for text in texts]
    if bare != [text.strip() for text in texts]:
        for other in (notation, *_OTHERS):
            numeric = ~np.isnan(other.numbers(bare))
            if share(numeric) > share(best):
                best, chosen, signs = numeric, other, True
    if share(best) * 2 <= len(rows):
        return None
    odd: dict[str, list[int]] = {}
    for position in np.flatnonzero(~best[codes]):
        odd.setdefault(texts[codes[position]], []).append(int(rows[position]))
    changed = np.flatnonzero((best & ~plain)[codes])
    in_quotes = np.array([isinstance(cell, str) for cell in present])
    quoted = bool(in_quotes[best[codes]].any() and not in_quotes[best[codes]].all())
    if not odd and not len(changed) and not quoted:  # all are typed as texts: whoever wrote the file wanted it so
        return None
    if not len(changed):
        changed = np.flatnonzero(in_quotes & best[codes])
    first = int(changed[0]) if len(changed) else 0
    example = (texts[codes[first]], int(rows[first]))
    return OddCells(len(rows), share(best), chosen, notation, signs, odd, example, quoted)


def _places(rows: Sequence[int], where: Where) -> str:
    listed = [where(row) for row in rows[:_MOST_ROWS]]
    return ", ".join(listed) + (f" and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else "")
