"""What a study is begun with, as plain values: kept beside its events, and compared when it is continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES, Named
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.tuning.study.warm_start import StoredWarmStart

NAMES = ("space", "sampler", "objective", "seed", "constraints", "stopper", "repeats", "fingerprint", "rules")
"""Arguments of Study that must stay the same."""

_LATER: dict[str, Any] = {"rules": []}
"""Those that studies of older versions do not name, as they were then."""


class Header(TypedDict, total=False):
    """The values of NAMES as they come back from JSON, and what the study knew of earlier runs."""

    space: dict[str, Any]
    sampler: dict[str, Any]
    objective: list[str]
    seed: int
    constraints: list[str]
    stopper: dict[str, Any] | None
    repeats: bool
    fingerprint: dict[str, Any] | None
    rules: list[str]
    earlier: StoredWarmStart | None


def plain_header(values: Header) -> Header:
    """The values as they come back from JSON. Raises UsageError for what JSON cannot hold."""
    try:
        header: Header = json.loads(json.dumps(values))
    except TypeError as error:
        raise UsageError(f"the study cannot be written down ({error}); use plain values") from None
    return header


def stored_header(store: Store) -> Header:
    """What the study in `store` was begun with; empty for one that is new."""
    values = store.meta()
    header: Header = {**_LATER, **values} if values else {}  # type: ignore[typeddict-item]
    return header


def whole_header(store: Store) -> Header:
    """What the study in `store` was begun with. Raises StorageError when that is not told."""
    header = stored_header(store)
    if any(name not in header for name in NAMES):
        raise store.damaged("it does not say what it was begun with")
    return header


def arguments(header: Header) -> dict[str, Any]:
    """What Study takes to be the same again."""
    return {name: header[name] for name in NAMES}  # type: ignore[literal-required]


def check_unchanged(before: Header, now: Header) -> None:
    """Raise UsageError with what differs."""
    changed = [name for name in NAMES if before.get(name) != now[name]]  # type: ignore[literal-required]
    if changed:
        rows = "; ".join(f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in changed)  # type: ignore[literal-required]
        raise UsageError(f"the study was begun otherwise: {rows}. Use the same arguments, or another path")


def strategy(family: str, value: object) -> Any:
    """The strategy that a name, a mapping with `type`, or an instance stands for. Raises ValueError."""
    parsed = Named(family).parse(dict(value) if isinstance(value, Mapping) else value)
    if parsed.family != family:
        raise ValueError(f"{parsed!r} is no {FAMILIES[family].noun}; write a name or a mapping with 'type'")
    return parsed
