"""A parameter as Optuna is asked for it. Imports nothing, as rivals live in environments of their own."""

from __future__ import annotations

from typing import Any


def suggest(trial: Any, name: str, spec: dict[str, Any]) -> Any:
    """The trial's value of a parameter, given as in `tuning.space`."""
    if "choice" in spec:
        return trial.suggest_categorical(name, spec["choice"])
    kind = "int" if "int" in spec else "float"
    return getattr(trial, f"suggest_{kind}")(name, *spec[kind], log=spec.get("log", False))
