"""Missing values: which rows they take, told column by column; and a class that they must not take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import pandas as pd

from modelopt_cli.core.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

Policy = Literal["impute", "drop", "refuse"]
OTHERS = "*"
"""The key of a mapping that stands for the columns that it does not name."""

_MOST = 10  # columns that a message names


def policies(
    asked: Policy | Mapping[str, Policy], features: Sequence[str], answers: Sequence[str]
) -> dict[str, Policy]:
    """Column -> what is done about its missing values. `answers`: target and weights, which cannot be made up.

    Raises UsageError for a policy that a column cannot have.
    """
    given: Mapping[str, Policy] = {OTHERS: asked} if isinstance(asked, str) else asked
    rest: Policy = given.get(OTHERS, "impute")
    for name in answers:
        if given.get(name) == "impute":
            raise UsageError(
                f"data.missing: '{name}' is a target or a weight, which is not made up; write drop or refuse"
            )
    return {
        **{name: given.get(name, rest) for name in features},
        **{name: given.get(name, "drop" if rest == "drop" else "refuse") for name in answers},
    }


def check_refused(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raises InputError where one of these columns has missing values."""
    counts = frame[list(columns)].isna().sum()
    if counts.any():
        worst = str(counts.idxmax())
        raise InputError(
            f"{what} has missing values in {int((counts > 0).sum())} columns, most in '{worst}' ({counts[worst]}); "
            "fill them in, or write 'missing: impute' or 'missing: drop'"
        )


def complete_rows(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(N,) True where none of these columns is missing."""
    return frame[list(columns)].notna().all(axis=1).to_numpy(bool)


def told_dropped(frame: pd.DataFrame, columns: Sequence[str], rows: int, written: Callable[[str], str]) -> str:
    """How many `rows` went, and for which columns. `written`: how a column's missing cells read, in words, or ''."""
    counts = frame[list(columns)].isna().sum()
    counts = counts[counts > 0].sort_values(ascending=False, kind="stable")
    listed = [f"'{name}' ({count}{written(str(name))})" for name, count in counts.head(_MOST).items()]
    if len(counts) > _MOST:
        listed.append(f"{len(counts) - _MOST} more")
    return f"data.missing: {rows} of {len(frame)} rows were left out, for missing values in {', '.join(listed)}"


def check_classes(before: Mapping[str, int], left: Sequence[str], target: str, dropped: Sequence[str]) -> None:
    """Raises InputError where a class of `before` (class -> rows) is not among those `left`."""
    vanished = [name for name in before if name not in left]
    if vanished:
        others = [name for name in dropped if name != target]
        remedy = f"write 'missing: {{{target}: drop}}' to drop by the target alone" if others else "fill them in"
        columns = ", ".join(repr(name) for name in dropped[:_MOST])
        raise InputError(
            f"data.missing: drop would leave out every row of class '{vanished[0]}' of '{target}' "
            f"({before[vanished[0]]} rows) for missing values in {columns}; {remedy}"
        )
