"""Tables as pandas data frames, each column with the type of what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_LARGEST = 2**63 - 1


def frame(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """A column of whole numbers is int64, of numbers float64, of truths bool, of text what pandas uses for text.

    Where cells are empty: Int64, float64 with NaN, boolean, text with None. Mixed columns (a setting that is a number
    in one trial and a word in another) hold Python objects.
    """
    import pandas as pd

    series = [_series([row[at] for row in rows]) for at in range(len(columns))]
    whole = pd.concat(series, axis=1) if series else pd.DataFrame()
    whole.columns = pd.Index(list(columns), dtype=object)
    return whole


def _series(values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    known = [value for value in values if value is not None]
    kinds = {type(value) for value in known}
    empty = len(known) < len(values)
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if empty else "bool")
    if kinds == {int} and max(map(abs, known)) <= _LARGEST:
        return pd.Series(values, dtype="Int64" if empty else "int64")
    if float in kinds and kinds <= {int, float}:
        return pd.Series([None if value is None else float(value) for value in values], dtype="float64")
    if kinds == {str}:
        return pd.Series(values)
    return pd.Series(values, dtype="object")
