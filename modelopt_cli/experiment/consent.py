"""What code an experiment file names itself, and so agrees to; and the file with its consent to what others name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from modelopt_cli.core.consent import Consent
from modelopt_cli.core.strategy import Strategy
from modelopt_cli.experiment.document.layout import Slot, slots, spelled_out

_KEY = "trust_code"
_OWN = "modelopt_cli."


def consent_in(settings: BaseModel) -> Consent:
    """To the code that the settings name: import paths, estimators, types that other packages give."""
    strategies = [part for part in _parts(settings) if isinstance(part, Strategy)]
    codes = [strategy.code() for strategy in strategies]
    foreign = [part for part in strategies if not type(part).__module__.startswith(_OWN)]
    return Consent(
        code=tuple(code for code in codes if code is not None),
        strategies=frozenset((part.family, part.name()) for part in foreign),
        estimators=frozenset(
            (path, str(getattr(part, "folder", "."))) for part in strategies for path in _estimators(part.model_dump())
        ),
    )


def _parts(value: Any) -> Iterator[Any]:
    """Every section in the settings, the outer ones first."""
    if isinstance(value, BaseModel):
        yield value
        value = [item for _, item in value]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item)


def _estimators(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("estimator"), str) and not value["estimator"].startswith("sklearn."):
            yield value["estimator"]
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _estimators(item)


def trusting(value: Any, slot: Slot) -> Any:
    """The plain values of a file in which every section that names a model.pt says `trust_code: true`."""
    if isinstance(value, list) and slot.items is not None:
        return [trusting(item, slot.items) for item in value]
    value = spelled_out(value, slot)
    section = slot.section(value)
    if section is None or not isinstance(value, Mapping):
        return value
    known = slots(section)
    trusted = {key: trusting(item, known[key]) if key in known else item for key, item in value.items()}
    return {**trusted, _KEY: True} if _KEY in known and trusted.get("path") is not None else trusted
