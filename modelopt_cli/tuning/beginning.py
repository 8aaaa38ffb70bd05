"""What a study is begun with, as plain values: kept beside its events, and compared when it is continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES, Named

if TYPE_CHECKING:
    from modelopt_cli.tuning.study import Study

NAMES = ("space", "sampler", "objective", "seed", "constraints", "stopper", "repeats", "fingerprint")
"""Arguments of Study that must stay the same."""


def describe(study: Study, fingerprint: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of NAMES as they come back from JSON. Raises UsageError for what JSON cannot hold."""
    values = {
        "space": study.space.to_spec(),
        "sampler": study.sampler.model_dump(mode="json"),
        "objective": [str(goal) for goal in study.goals],
        "seed": study.seed,
        "constraints": [str(condition) for condition in study.constraints],
        "stopper": None if study.stopper is None else study.stopper.model_dump(mode="json"),
        "repeats": study.repeats,
        "fingerprint": None if fingerprint is None else dict(fingerprint),
    }
    try:
        found: dict[str, Any] = json.loads(json.dumps(values))
    except TypeError as error:
        raise UsageError(f"the study cannot be written down ({error}); use plain values") from None
    return found


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError with what differs."""
    changed = [name for name in NAMES if before.get(name) != now[name]]
    if changed:
        rows = "; ".join(f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in changed)
        raise UsageError(f"the study was begun otherwise: {rows}. Use the same arguments, or another path")


def strategy(family: str, value: Any) -> Any:
    """The strategy that a name, a mapping with `type`, or an instance stands for. Raises ValueError."""
    found = Named(family).parse(dict(value) if isinstance(value, Mapping) else value)
    if found.family != family:
        raise ValueError(f"{found!r} is no {FAMILIES[family].noun}; write a name or a mapping with 'type'")
    return found
