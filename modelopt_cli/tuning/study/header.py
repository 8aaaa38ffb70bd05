"""What a study is begun with, as plain values: kept beside its events, and compared when it is continued."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES, Named
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study import events
from modelopt_cli.tuning.study.store import Store
from modelopt_cli.tuning.study.warm_start import Knowledge, Source, study_file
from modelopt_cli.tuning.trials.evaluator import ObjectiveEvaluator

if TYPE_CHECKING:
    from modelopt_cli.tuning.study.study import Study
    from modelopt_cli.tuning.trials.trial import Trial

NAMES = ("space", "sampler", "objective", "seed", "constraints", "stopper", "repeats", "fingerprint", "rules")
"""Arguments of Study that must stay the same."""

_LATER: dict[str, Any] = {"rules": []}
"""Those that studies of older versions do not name, as they were then."""


def begin(
    study: Study,
    store: Store,
    evaluator: ObjectiveEvaluator,
    fingerprint: Mapping[str, Any] | None,
    earlier: Sequence[str | Path | Source],
) -> Knowledge:
    """Note what the study is begun with; one that is continued must have been begun with the same.

    What it knows of `earlier` runs is noted with it, and read from there ever after; so is the order of the space's
    keys, on which suggestions depend, though the order in a mapping means nothing to who writes it.
    """
    before, now = store.meta(), describe(study, evaluator, fingerprint)
    before = {**_LATER, **before} if before else {}
    if before:
        check_unchanged(before, now)
        if json.dumps(before["space"]) != json.dumps(now["space"]):  # the same but for the order of keys
            study.space = Space.from_spec(before["space"], now["rules"])
        plain = before.get("earlier")
    else:
        sources = (run if isinstance(run, Source) else Source(_trials_of(study_file(run))) for run in earlier)
        plain = json.loads(json.dumps(Knowledge.gather(sources, study.space, evaluator).to_plain()))
        store.set_meta({**now, "earlier": plain})
    try:
        return Knowledge() if plain is None else Knowledge.from_plain(plain)
    except (LookupError, TypeError, ValueError) as error:
        raise store.damaged(f"its earlier trials make no sense: {error}") from None


def arguments(store: Store) -> dict[str, Any]:
    """What the study in `store` was begun with, by NAMES; what else is noted beside. Raises StorageError."""
    meta = {**_LATER, **store.meta()}
    if any(name not in meta for name in NAMES):
        raise store.damaged("it does not say what it was begun with")
    return meta


def replayed(store: Store) -> events.History:
    """What the events in `store` leave. Raises StorageError when they make no sense."""
    try:
        return events.replay(store.events())
    except ValueError as error:
        raise store.damaged(str(error)) from None


def _trials_of(path: Path) -> list[Trial]:
    store = Store(path, write=False)
    try:
        return replayed(store).trials
    finally:
        store.close()


def describe(study: Study, evaluator: ObjectiveEvaluator, fingerprint: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of NAMES as they come back from JSON. Raises UsageError for what JSON cannot hold."""
    values = {
        "space": study.space.to_spec(),
        "sampler": study.sampler.model_dump(mode="json"),
        "objective": [str(goal) for goal in evaluator.goals],
        "seed": study.seed,
        "constraints": [str(condition) for condition in evaluator.constraints],
        "stopper": None if study.stopper is None else study.stopper.model_dump(mode="json"),
        "repeats": study.repeats,
        "fingerprint": None if fingerprint is None else dict(fingerprint),
        "rules": [str(rule) for rule in study.space.rules],
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
