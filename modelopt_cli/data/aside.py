"""Columns that stand beside the inputs: whose a sample is (a customer, a patient), and when it was taken.

Splits and folds go by them; a model does not see them, unless the file says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from modelopt_cli.data.raw import RawData


def order_in_time(column: pd.Series[Any], name: str) -> np.ndarray:
    """(N,) float64 that grows with time: of numbers themselves, of dates and of texts that are dates.

    Raises InputError at missing values and at what is no date.
    """
    import numpy as np
    import pandas as pd

    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise InputError(f"time column '{name}' is empty in data row {missing[0] + 1}; fill it in, or drop the row")
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if np.isfinite(numbers).all():
        return numbers
    try:
        moments = pd.to_datetime(column, format="ISO8601", utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"time column '{name}' holds what is neither number nor date ({str(error).partition(', at')[0]}); write "
            "dates as 2024-12-31, with 23:59:59 after it where it matters"
        ) from None
    return moments.astype("int64").to_numpy(np.float64)


def groups_of(raw: RawData, name: str, indices: np.ndarray) -> np.ndarray:
    """(len(indices),) int64: which group each of these samples is of, by the column `name`.

    Raises InputError where the data have no such column, and at missing values.
    """
    import pandas as pd

    values = raw.aside.get(name)
    if values is None:
        raise InputError(
            f"the groups '{name}' are no column of these data: csv, parquet and openml have named ones, and RawData of "
            "your own code where it gives them as `aside`; leave out groups"
        )
    codes, _ = pd.factorize(pd.Series(values))
    if (codes < 0).any():
        row = int((codes < 0).argmax()) + 1
        raise InputError(f"the groups column '{name}' is empty in data row {row}; fill it in, or drop the row")
    return codes.astype("int64")[indices]  # type: ignore[no-any-return]


def in_time(raw: RawData, indices: np.ndarray) -> np.ndarray:
    """The samples from the earliest to the latest: by the time column, else as they stand in the source."""
    import numpy as np

    ordered = np.sort(indices)
    if raw.order is None:
        return ordered
    return ordered[np.argsort(raw.order[ordered], kind="stable")]
