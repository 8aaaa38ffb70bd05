"""Which settings were tried, or wait to be, by their canonical keys."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.trials.indexed import Index
from modelopt_cli.tuning.trials.trial import Trial


class Tried(Index):
    """The settings of all trials; equal ones count once."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._first: dict[Hashable, int] = {}

    def change(self, before: Trial | None, after: Trial) -> None:
        """A new trial's setting is tried from now on."""
        if before is None:
            self._first.setdefault(self._space.canonical(after.params), after.number)

    def __len__(self) -> int:
        return len(self._first)

    def __contains__(self, key: Hashable) -> bool:
        """Whether a setting with this key (Space.canonical) was tried."""
        return key in self._first

    def first(self, params: Mapping[str, Any]) -> int | None:
        """The number of the first trial of a setting; None: there is none."""
        return self._first.get(self._space.canonical(params))
