"""Downloading a data set of OpenML by scikit-learn's fetch_openml, with its failures told plainly."""

from __future__ import annotations

import warnings
from typing import Any
from urllib.error import URLError

import pandas as pd

from modelopt_cli.core.errors import InputError


def fetch(what: str, cache: str | None, **name: Any) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All columns of a data set, by their names as texts, and which of them are its targets.

    what: how messages call it. name: `data_id`, or `name` and `version`. Raises InputError: unknown, no network and not
    cached, or damaged.
    """
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():  # "several active versions", "retrying": the outcome says what matters
            warnings.simplefilter("ignore")
            bunch = fetch_openml(**name, data_home=cache, as_frame=True, parser="pandas", n_retries=1, delay=0.5)
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{what} cannot be downloaded ({reason}) and is not in the cache; check the name and the network, "
            "or fetch it once on a machine with network and set 'cache' to a copy of its ~/scikit_learn_data"
        ) from None
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"{what} cannot be read: {error}") from None
    frame: pd.DataFrame = bunch.frame
    frame.columns = frame.columns.map(str)
    return frame, tuple(str(column) for column in bunch.target_names)
