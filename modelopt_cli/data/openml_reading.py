"""What the openml source does: scikit-learn's fetch_openml, with its failures told plainly."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import pandas as pd

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.columns import Notation
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.tables import Table, mark_missing, table_to_raw

if TYPE_CHECKING:
    from modelopt_cli.data.sources.openml import OpenML


def load(source: OpenML) -> RawData:
    """The data set as RawData. Raises InputError: unknown, no network and not cached, or damaged."""
    what = f"OpenML data set '{source.dataset}'" if source.dataset else f"OpenML data set {source.data_id}"
    bunch = _fetch(source, what)
    frame: pd.DataFrame = bunch.frame
    frame.columns = frame.columns.map(str)
    if source.target is not None:
        targets = (source.target,) if isinstance(source.target, str) else source.target
    else:
        targets = tuple(str(name) for name in bunch.target_names)
    if not targets:
        raise InputError(f"{what} names no target; set 'target' to one of: {', '.join(frame.columns[:20])}")
    digest = hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()).hexdigest()
    table = Table(mark_missing(frame, source.marks or ()), what, Notation(".", source.thousands))
    return replace(table_to_raw(table, source, targets), fingerprint=digest, reading=source.reading())


def _fetch(source: OpenML, what: str) -> Any:
    from sklearn.datasets import fetch_openml

    name = (
        {"data_id": source.data_id} if source.dataset is None else {"name": source.dataset, "version": source.version}
    )
    try:
        with warnings.catch_warnings():  # "several active versions", "retrying": the outcome says what matters
            warnings.simplefilter("ignore")
            return fetch_openml(**name, data_home=source.cache, as_frame=True, parser="pandas", n_retries=1, delay=0.5)
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{what} cannot be downloaded ({reason}) and is not in the cache; check the name and the network, "
            "or fetch it once on a machine with network and set 'cache' to a copy of its ~/scikit_learn_data"
        ) from None
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"{what} cannot be read: {error}") from None
