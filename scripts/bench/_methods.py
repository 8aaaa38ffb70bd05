"""Searches of modelopt's that benchmarks compare: by name, or as a tuning section's sampler, stopper and scheduler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelopt_cli.core.strategy import Named

METHODS: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random"},
    "bayesian": {"sampler": "bayesian"},
    "random, asha": {"sampler": "random", "stopper": "asha"},
    "random, hyperband": {"sampler": "random", "stopper": "hyperband"},
    "bayesian, asha": {"sampler": "bayesian", "stopper": "asha"},
    "tpe, hyperband": {"sampler": "tpe", "stopper": "hyperband"},
    "successive_halving": {"sampler": "random", "scheduler": "successive_halving"},
    "bohb": {"sampler": "random", "scheduler": "bohb"},
    "freeze_thaw": {"sampler": "random", "scheduler": "freeze_thaw"},
}


def method_of(name: str) -> dict[str, Any]:
    """By its name, or what the name holds as JSON."""
    return METHODS[name] if name in METHODS else dict(json.loads(name))


def strategies(method: Mapping[str, Any]) -> dict[str, Any]:
    """The method's stopper and scheduler, as `search` and `simulate` take them."""
    return {kind: Named(f"{kind}s").parse(method[kind]) for kind in ("stopper", "scheduler") if kind in method}
