"""The trials of a study as they are at any time, and what is derived from them, kept up to date.

Strategies are pure functions of the trials: which losses have come to a rung, whether a setting was tried, who is
paused. To go through all trials for such an answer makes each decision dearer than the one before. An `Index` holds one
answer, and is told of each change of a trial instead. It is derived data: from a plain list of the same trials
`derived` makes the same index at once. That is how a strategy gets it where nobody keeps one, and what tests compare.

>>> from modelopt_cli.tuning.study.study import Study
>>> from modelopt_cli.tuning.trials.by_state import ByState, State
>>> study = Study({"x": {"float": [0, 1]}}, "random")
>>> trials = study.ask_many(3)
>>> list(derived(study.history, ByState).numbers(State.RUNNING))
[0, 1, 2]
>>> trial = study.tell(1, 0.5)
>>> list(derived(study.history, ByState).numbers(State.RUNNING))
[0, 2]
>>> list(derived(study.trials, ByState).numbers(State.RUNNING))
[0, 2]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from typing import ClassVar, TypeVar, cast, overload

from modelopt_cli.tuning.trials.trial import Trial


class Index(ABC):
    """What is derived from trials: begins with none of them, and depends on them, not on the order of their changes."""

    follows_voided: ClassVar[bool] = True
    """False when it cannot tell what is left after points of a curve were taken back: it is made anew, then."""

    @abstractmethod
    def change(self, before: Trial | None, after: Trial) -> None:
        """A trial is now as `after`; None: it is new. Number, setting and seed never change, and its curve grows."""


AnIndex = TypeVar("AnIndex", bound=Index)


class IndexedTrials(Sequence[Trial]):
    """Trials in order of number, those of earlier runs first: a view of a list, whose owner tells of each change."""

    def __init__(self, trials: Sequence[Trial], earlier: Sequence[Trial] = ()) -> None:
        """`earlier`: trials that come before all others, and never change."""
        self._trials, self._earlier = trials, tuple(earlier)
        self._indices: dict[tuple[Callable[..., Index], tuple[Hashable, ...]], Index] = {}
        self._views: list[IndexedTrials] = []

    def after(self, earlier: Sequence[Trial]) -> IndexedTrials:
        """The same, with trials of earlier runs before them."""
        view = IndexedTrials(self._trials, earlier)
        self._views.append(view)
        return view

    def index(self, make: Callable[..., AnIndex], *arguments: Hashable) -> AnIndex:
        """What `make(*arguments)` begins, with all trials in it: made once, and kept up to date ever after."""
        index = self._indices.get((make, arguments))
        if index is None:
            index = self._indices[make, arguments] = _filled(make(*arguments), self)
        return cast(AnIndex, index)

    def changed(self, before: Trial | None, after: Trial) -> None:
        """A trial was added to the list (`before` is None), or replaced."""
        if before is not None and len(after.curve) < len(before.curve):
            self._indices = {making: index for making, index in self._indices.items() if index.follows_voided}
        for index in self._indices.values():
            index.change(before, after)
        for view in self._views:
            view.changed(before, after)

    def __len__(self) -> int:
        return len(self._earlier) + len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        return chain(self._earlier, self._trials)

    def __reversed__(self) -> Iterator[Trial]:
        return chain(reversed(self._trials), reversed(self._earlier))

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Trial, ...]: ...
    def __getitem__(self, index: int | slice) -> Trial | tuple[Trial, ...]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        position = index if index >= 0 else len(self) + index
        if not 0 <= position < len(self):
            raise IndexError(f"there is no trial at {index} of {len(self)}")
        earlier = len(self._earlier)
        return self._trials[position - earlier] if position >= earlier else self._earlier[position]


def derived(trials: Sequence[Trial], make: Callable[..., AnIndex], *arguments: Hashable) -> AnIndex:
    """What `make(*arguments)` begins, with all these trials in it: as it is kept with them, or made now."""
    if isinstance(trials, IndexedTrials):
        return trials.index(make, *arguments)
    return _filled(make(*arguments), trials)


def _filled(index: AnIndex, trials: Sequence[Trial]) -> AnIndex:
    for trial in trials:
        index.change(None, trial)
    return index
