"""Packages that only some of what modelopt does needs, and that an extra of modelopt-cli installs."""

from __future__ import annotations

import importlib.util

from modelopt_cli.core.errors import MissingExtraError


def require(package: str, extra: str) -> None:
    """Raise MissingExtraError when `package`, which `extra` installs, is not there."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra)
