"""Which samples train, validate and test: fractions drawn as scikit-learn draws them, or given indices.

The order of indices is part of the result: scikit-learn's unshuffled folds depend on it, so nothing here sorts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from modelopt_cli.core.errors import InputError
from modelopt_cli.core.strategy import Settings
from modelopt_cli.core.types import Items
from modelopt_cli.data.aside import groups_of, in_time

if TYPE_CHECKING:
    import numpy as np

    from modelopt_cli.data.raw import RawData

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Indices = Items[Annotated[int, Field(ge=0)]]


class Splits(Settings):
    """What is set aside, as fractions of all samples or as lists of sample positions."""

    validation: Share | Indices = Field(0.2, description="Fraction of all samples, or their positions; 0: none.")
    test: Share | Indices | None = Field(
        None,
        description="Fraction of all samples, or their positions; 0: none. null: the data's own test samples, if any.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**32,
        description="null: one derived from the experiment's.",
    )
    stratify: bool | Literal["auto"] = Field(
        "auto", description="Keep the classes' shares in every split. auto: where each class has enough members."
    )

    groups: str | None = Field(
        None,
        description="Column that says whose a sample is: no group has samples on two sides. Fractions hold as nearly "
        "as whole groups allow. The column is no input of the model.",
    )
    order: Literal["random", "time"] = Field(
        "random", description="time: the latest samples are the test split, those before them the validation split."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.groups is not None and self.order == "time":
            raise ValueError("splits go by groups or by time, not by both; leave out groups or order")
        if self.order == "time" and self.stratify is True:
            raise ValueError(
                "stratify is true, but the latest samples are those that they are; leave out stratify or order"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        shares = sum(part for part in (self.validation, self.test) if isinstance(part, float | int))
        if shares >= 1:
            raise ValueError(f"validation and test take {shares:g} of the data; leave some to train on (sum below 1)")
        seen: set[int] = set()
        for name, part in (("validation", self.validation), ("test", self.test)):
            if isinstance(part, tuple):
                twice = seen.intersection(part) or (set(part) if len(set(part)) < len(part) else set())
                if twice:
                    raise ValueError(f"{name} lists a sample that is already taken, e.g. {min(twice)}; list each once")
                seen.update(part)
        return self


@dataclass(frozen=True, eq=False)
class SplitIndices:
    """Positions in the source, int64, in the order in which they were drawn; empty where there is no such split."""

    train: np.ndarray  # (N,)
    validation: np.ndarray
    test: np.ndarray


def split(raw: RawData, splits: Splits | None, seed: int) -> SplitIndices:
    """Draw the splits. `seed` serves where `splits` has none; `splits` None stands for the defaults (see `pinned`).

    A test fraction gives exactly `sklearn.model_selection.train_test_split(indices, test_size=test,
    random_state=seed, stratify=...)`; validation is then drawn from the remainder with the same seed, as many samples
    as its fraction of the whole. Raises InputError when a split would be empty or a position does not exist.
    """
    settings = pinned(raw, splits, seed)
    rest, test, whole = _set_test_aside(raw, settings, seed)
    if isinstance(settings.validation, tuple):
        train, validation = rest, _checked(raw, settings.validation, "validation")
    else:
        count = math.ceil(settings.validation * whole)
        train, validation = _draw(raw, settings, rest, count, seed, "validation")
    if not len(train):
        raise InputError(f"no sample of {len(raw)} is left to train on; make the other splits smaller")
    if settings.groups is not None:
        _check_apart(raw, settings.groups, {"train": train, "validation": validation, "test": test})
    return SplitIndices(train, validation, test)


def _check_apart(raw: RawData, column: str, parts: Mapping[str, np.ndarray]) -> None:
    """Raise InputError where a group stands on two sides: positions that are listed may do that."""
    seen: dict[int, str] = {}
    for name, part in parts.items():
        codes = groups_of(raw, column, part)
        for code, position in zip(codes.tolist(), part.tolist(), strict=True):
            other = seen.setdefault(code, name)
            if other != name:
                raise InputError(
                    f"splits.groups is '{column}', but '{raw.aside[column][position]}' stands in {other} and {name}; "
                    "list whole groups, or set fractions"
                )


def draw_part(
    raw: RawData, splits: Splits, indices: np.ndarray, count: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """(the others, `count` of the samples `indices`), drawn as `splits` says: by groups, by time, or at random."""
    return _draw(raw, splits, indices, count, seed, name)


def pinned(raw: RawData, splits: Splits | None, seed: int) -> Splits:
    """`splits` with the defaults and the seed written out, so that it gives the same splits anywhere.

    The defaults: validation 0.2, and the source's own test samples, or 0.2 where it has none.
    """
    if splits is None:
        own = raw.test_indices is not None and len(raw.test_indices) > 0
        splits = Splits() if own else Splits(test=0.2)
    return splits if splits.seed is not None else splits.model_copy(update={"seed": seed})


def development(raw: RawData, splits: Splits | None, seed: int) -> np.ndarray:
    """Positions of all samples that are not the test split, in order: what cross-validation is done over.

    `splits` None: all of the data, except the source's own test samples.
    """
    import numpy as np

    settings = splits or Splits()
    rest, _, _ = _set_test_aside(raw, settings, seed)
    if isinstance(settings.validation, tuple):
        rest = np.concatenate([rest, _checked(raw, settings.validation, "validation")])
    if not len(rest):
        raise InputError(f"no sample of {len(raw)} is left besides the test split; make it smaller")
    return rest


def folds(
    raw: RawData,
    indices: np.ndarray,
    cv: int,
    repeats: int = 1,
    seed: int = 0,
    *,
    groups: str | None = None,
    by_time: bool = False,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, validation) positions of `cv` folds over `indices`, in scikit-learn's own order.

    repeats = 1: unshuffled StratifiedKFold (classification) or KFold, as a plain `cv=5` means to scikit-learn.
    More: RepeatedStratifiedKFold or RepeatedKFold with `random_state=seed`; `cv * repeats` folds.
    `groups`: StratifiedGroupKFold (classification) or GroupKFold by that column, repeated ones shuffled with the seeds
    seed, seed + 1, ...; `by_time`: TimeSeriesSplit from the earliest to the latest sample.
    """
    if by_time:
        return _folds_in_time(raw, indices, cv)
    if groups is not None:
        return _folds_of_groups(raw, indices, cv, repeats, seed, groups)
    from sklearn.model_selection import KFold, RepeatedKFold, RepeatedStratifiedKFold, StratifiedKFold

    stratified = raw.task == "classification"
    if cv < 2 or cv > len(indices):
        raise InputError(f"cv is {cv}, but must be at least 2 and at most the {len(indices)} samples it divides")
    targets = raw.strata[0][indices]
    if stratified:
        _check_members(raw, targets, cv)
    if repeats == 1:
        folder = (StratifiedKFold if stratified else KFold)(cv)
    else:
        repeated = RepeatedStratifiedKFold if stratified else RepeatedKFold
        folder = repeated(n_splits=cv, n_repeats=repeats, random_state=seed)
    return [(indices[train], indices[validation]) for train, validation in folder.split(indices, targets)]


def _folds_in_time(raw: RawData, indices: np.ndarray, cv: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import TimeSeriesSplit

    if cv >= len(indices):
        raise InputError(
            f"cv is {cv}, but {len(indices)} samples give at most {len(indices) - 1} folds in order of time"
        )
    ordered = in_time(raw, indices)
    return [(ordered[train], ordered[validation]) for train, validation in TimeSeriesSplit(cv).split(ordered)]


def _folds_of_groups(
    raw: RawData, indices: np.ndarray, cv: int, repeats: int, seed: int, column: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    import numpy as np
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    groups = groups_of(raw, column, indices)
    count = len(np.unique(groups))
    if cv > count:
        raise InputError(
            f"evaluation.groups: '{column}' has {count} groups, fewer than the cv of {cv}; use a smaller cv"
        )
    targets = raw.strata[0][indices]
    stratified = raw.task == "classification"
    if stratified:
        _check_members(raw, targets, cv)
    pairs = []
    for repeat in range(repeats):
        shuffled = {"shuffle": True, "random_state": seed + repeat} if repeats > 1 else {}
        folder = (StratifiedGroupKFold if stratified else GroupKFold)(cv, **shuffled)
        pairs += [(indices[train], indices[part]) for train, part in folder.split(indices, targets, groups)]
    if any(not len(part) for _, part in pairs):
        raise InputError(f"evaluation.groups: the groups of '{column}' do not fill {cv} folds; use a smaller cv")
    return pairs


def _set_test_aside(raw: RawData, settings: Splits, seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(samples that are neither test nor listed for validation, test samples, samples that fractions count)."""
    import numpy as np

    free = np.ones(len(raw), bool)
    if isinstance(settings.validation, tuple):
        free[_checked(raw, settings.validation, "validation")] = False
    if settings.test is None or isinstance(settings.test, tuple):
        if settings.test is not None:
            test = _checked(raw, settings.test, "test")
        else:
            test = np.empty(0, np.int64) if raw.test_indices is None else raw.test_indices.astype(np.int64)
            if not free[test].all():
                raise InputError(
                    "splits.validation lists samples of the data's own test split; list others, "
                    "or set splits.test (0 for none) to draw it anew"
                )
        free[test] = False
        own = settings.test is None
        return np.flatnonzero(free), test, len(raw) - len(test) if own else len(raw)
    rest, test = _draw(raw, settings, np.flatnonzero(free), math.ceil(settings.test * len(raw)), seed, "test")
    return rest, test, len(raw)


def _draw(
    raw: RawData, settings: Splits, indices: np.ndarray, count: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """(the others, `count` of them), both shuffled as scikit-learn's train_test_split does it."""
    from sklearn.model_selection import train_test_split

    if count == 0:
        return indices, indices[:0]
    if count >= len(indices):
        raise InputError(
            f"splits.{name} takes {count} of the {len(indices)} samples that are left and none remains to train on; "
            "make it smaller"
        )
    if settings.order == "time":
        ordered = in_time(raw, indices)
        return ordered[:-count], ordered[-count:]
    classes = _classes_to_keep(raw, settings, indices, count, name)
    if settings.groups is not None:
        return _draw_groups(raw, settings, indices, count, seed, name)
    state = seed if settings.seed is None else settings.seed
    rest, drawn = train_test_split(indices, test_size=count, random_state=state, stratify=classes)
    return rest, drawn


_DRAWS = 100  # of groups, of which the one is taken that comes nearest to the shares that are asked for


def _draw_groups(
    raw: RawData, settings: Splits, indices: np.ndarray, count: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Whole groups with about `count` samples, and about the classes' shares, as GroupShuffleSplit draws them."""
    import numpy as np
    from sklearn.model_selection import GroupShuffleSplit

    column = settings.groups
    assert column is not None
    groups = groups_of(raw, column, indices)
    number = len(np.unique(groups))
    if number < 2:
        raise InputError(
            f"splits.groups: '{column}' has {number} group for the {name} split and those to train on; each needs one "
            "of its own: set fewer splits, or leave out groups"
        )
    wanted = min(max(1, round(count / len(indices) * number)), number - 1)
    classes = raw.strata[0][indices] if raw.task == "classification" and settings.stratify is not False else None
    state = seed if settings.seed is None else settings.seed
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for rest, drawn in GroupShuffleSplit(_DRAWS, test_size=wanted, random_state=state).split(indices, groups=groups):
        miss = abs(len(drawn) - count) / len(indices)
        if classes is not None:
            kinds = int(classes.max()) + 1
            shares = [np.bincount(classes[part], minlength=kinds) / len(part) for part in (rest, drawn)]
            miss += float(np.abs(shares[0] - shares[1]).sum()) / 2
        if best is None or miss < best[0]:
            best = (miss, rest, drawn)
    assert best is not None
    return indices[best[1]], indices[best[2]]


def _classes_to_keep(raw: RawData, settings: Splits, indices: np.ndarray, count: int, name: str) -> np.ndarray | None:
    """Classes to stratify by, or None. Raises InputError when asked for and not possible."""
    import numpy as np

    if settings.stratify is False or (raw.task != "classification" and settings.stratify == "auto"):
        return None
    if raw.task != "classification":
        raise InputError(f"splits.stratify is true, but the task is {raw.task}; it needs classes: leave it out")
    classes: np.ndarray = raw.strata[0][indices]
    members = np.bincount(classes)
    present = members[members > 0]
    fits = present.min() >= 2 and min(count, len(indices) - count) >= len(present)
    if fits:
        return classes
    if settings.stratify == "auto":
        return None
    rare = raw.strata[1][int(np.argmin(np.where(members > 0, members, members.max() + 1)))]
    raise InputError(
        f"splits.stratify is true, but {len(present)} classes (class '{rare}' has {present.min()} samples) do not fit "
        f"into {count} {name} samples of {len(indices)}; use stratify: auto or another fraction"
    )


def _check_members(raw: RawData, targets: np.ndarray, cv: int) -> None:
    import numpy as np

    names = raw.strata[1]
    members = np.bincount(targets, minlength=len(names))
    rare = np.flatnonzero((members > 0) & (members < cv))
    if len(rare):
        name = names[rare[0]] if names else rare[0]
        raise InputError(f"class '{name}' has {members[rare[0]]} samples, fewer than the cv of {cv}; use a smaller cv")


def _checked(raw: RawData, positions: tuple[int, ...], name: str) -> np.ndarray:
    import numpy as np

    if positions and max(positions) >= len(raw):
        raise InputError(f"splits.{name} lists sample {max(positions)}, but there are {len(raw)} (0 to {len(raw) - 1})")
    return np.asarray(positions, np.int64)
