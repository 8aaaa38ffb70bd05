"""Splits and folds by groups and in order of time: nobody is on two sides, nothing later is learnt from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, TimeSeriesSplit

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.sources.csv import Csv
from modelopt_cli.data.sources.iris import Iris
from modelopt_cli.data.splits import Splits, development, draw_part, folds, split
from modelopt_cli.data.tables import Table, table_to_raw
from modelopt_cli.experiment.evaluation import EvaluationSettings


def data(groups: Any, classes: Any = None, order: Any = None) -> RawData:
    count = len(groups)
    targets = np.arange(count, dtype=float) if classes is None else np.asarray(classes)
    return RawData(
        inputs=np.zeros((count, 1)),
        targets=targets,
        task="regression" if classes is None else "classification",
        label_names=() if classes is None else tuple(map(str, range(int(targets.max()) + 1))),
        aside={"who": np.asarray(groups)},
        order=None if order is None else np.asarray(order, float),
    )


SEEDS = st.integers(0, 99)
GROUPS = st.lists(st.integers(0, 12), min_size=12, max_size=80)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    groups=GROUPS,
    validation=st.sampled_from([0.1, 0.2, 0.4]),
    test=st.sampled_from([0, 0.1, 0.3]),
    seed=SEEDS,
)
def test_no_group_is_on_two_sides_of_a_split(groups: list[int], validation: float, test: float, seed: int) -> None:
    assume(len(set(groups)) >= 4)
    raw = data(groups, classes=[value % 2 for value in range(len(groups))])
    parts = split(raw, Splits(validation=validation, test=test, groups="who"), seed)
    sides = [{groups[at] for at in part} for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, sides)) == len(set(groups))
    assert set.union(*sides) == set(groups)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test])) == list(range(len(groups)))
    assert len(parts.validation)
    assert bool(len(parts.test)) == bool(test)
    rest = development(raw, Splits(validation=validation, test=test, groups="who"), seed)
    assert not {groups[at] for at in rest} & sides[2]
    if len(sides[0]) > 1:
        drawn = draw_part(raw, Splits(groups="who"), parts.train, 1, seed, "part")
        assert not {groups[at] for at in drawn[0]} & {groups[at] for at in drawn[1]}


@settings(max_examples=40, deadline=None)
@given(groups=GROUPS, cv=st.integers(2, 4), repeats=st.integers(1, 2), classes=st.booleans())
def test_no_group_is_on_two_sides_of_a_fold(groups: list[int], cv: int, repeats: int, classes: bool) -> None:
    assume(len(set(groups)) >= cv)
    raw = data(groups, [value % 2 for value in range(len(groups))] if classes else None)
    indices = np.arange(len(groups))
    try:
        pairs = folds(raw, indices, cv, repeats, 3, groups="who")
    except InputError:  # some groups are so large that they do not fill the folds
        assume(False)
    assert len(pairs) == cv * repeats
    for train, validation in pairs:
        assert not {groups[at] for at in train} & {groups[at] for at in validation}
        assert sorted([*train, *validation]) == list(indices)


def test_folds_are_scikit_learn_s_own() -> None:
    groups = [number % 9 for number in range(60)]
    plain, classes = data(groups), data(groups, [number % 2 for number in range(60)])
    indices = np.arange(60)
    for raw, folder in ((plain, GroupKFold(3)), (classes, StratifiedGroupKFold(3))):
        expected = list(folder.split(indices, raw.targets, groups))
        for ours, theirs in zip(folds(raw, indices, 3, groups="who"), expected, strict=True):
            assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))
    for ours, theirs in zip(folds(plain, indices, 4, by_time=True), TimeSeriesSplit(4).split(indices), strict=True):
        assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))


def test_shares_hold_as_nearly_as_whole_groups_allow() -> None:
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 60, 1200)
    classes = (draw.random(1200) < 0.2 + 0.4 * (groups % 2)).astype(int)
    raw = data(groups, classes)
    parts = split(raw, Splits(validation=0.2, test=0.2, groups="who"), 0)
    for part in (parts.validation, parts.test):
        assert abs(len(part) / 1200 - 0.2) < 0.02
        assert abs(classes[part].mean() - classes.mean()) < 0.03


@settings(max_examples=40, deadline=None)
@given(moments=st.lists(st.integers(0, 30), min_size=12, max_size=60), cv=st.integers(2, 5))
def test_nothing_later_is_learnt_from(moments: list[int], cv: int) -> None:
    raw, when = data([0] * len(moments), order=moments), np.asarray(moments)
    for train, validation in folds(raw, np.arange(len(moments)), cv, by_time=True):
        assert when[train].max() <= when[validation].min()
    parts = split(raw, Splits(validation=0.2, test=0.2, order="time"), 0)
    assert when[parts.train].max() <= when[parts.validation].min()
    assert when[parts.validation].max() <= when[parts.test].min()


def test_without_a_column_the_rows_stand_in_order_of_time() -> None:
    parts = split(data([0] * 10), Splits(validation=0.2, test=0.2, order="time"), 0)
    assert [list(part) for part in (parts.train, parts.validation, parts.test)] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (
            lambda: folds(data([1, 1, 2, 2, 3]), np.arange(5), 4, groups="who"),
            "'who' has 3 groups, fewer than the cv of 4",
        ),
        (lambda: folds(data([1] * 4), np.arange(4), 4, by_time=True), "cv is 4, but 4 samples give at most 3 folds"),
        (lambda: split(data([1] * 9), Splits(groups="who"), 0), "'who' has 1 group for the validation split"),
        (lambda: split(data([1] * 9), Splits(groups="whom"), 0), "the groups 'whom' are no column of these data"),
        (lambda: split(data([1, None, 2, 3]), Splits(groups="who"), 0), "'who' is empty in data row 2"),
        (
            lambda: split(data([1, 1, 2, 2, 3]), Splits(validation=(0,), test=0, groups="who"), 0),
            "but '1' stands in train and validation; list whole groups",
        ),
    ],
)
def test_what_cannot_be_done_is_told(call: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        call()


def test_bundled_data_have_no_groups() -> None:
    with pytest.raises(InputError, match="csv, parquet and openml have"):
        split(Iris(splits=Splits(groups="who")).read(0), Splits(groups="who"), 0)


@pytest.mark.parametrize(
    ("settings_of", "values", "rule"),
    [
        (EvaluationSettings, {"groups": "who"}, "groups is about folds, but there are none; set cv"),
        (EvaluationSettings, {"order": "time"}, "order is about folds, but there are none"),
        (EvaluationSettings, {"cv": 3, "groups": "who", "order": "time"}, "by groups or by time, not by both"),
        (EvaluationSettings, {"cv": 3, "order": "time", "repeats": 2}, "folds in order of time are always the same"),
        (Splits, {"groups": "who", "order": "time"}, "by groups or by time, not by both"),
        (Splits, {"order": "time", "stratify": True}, "leave out stratify or order"),
    ],
)
def test_options_that_exclude_each_other(settings_of: Any, values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        settings_of(**values)


FRAME = pd.DataFrame(
    {
        "who": ["ann", "bob", "ann", "cyd"],
        "day": ["2024-03-01", "2024-01-31 10:00", "2023-12-31", "2024-01-31T09:00"],
        "a": [1.0, 2.0, 3.0, 4.0],
        "y": [0.5, 1.5, 2.5, 3.5],
    }
)


def table(**options: Any) -> RawData:
    return table_to_raw(Table(FRAME, "t.csv"), Csv(path="t.csv", target="y", **options), ("y",))


def test_groups_and_time_are_no_inputs_unless_kept() -> None:
    raw = table(splits=Splits(groups="who"), time="day")
    assert raw.feature_names == ("a",)
    assert list(raw.aside["who"]) == list(FRAME["who"])
    assert raw.order is not None
    assert list(np.argsort(raw.order)) == [2, 3, 1, 0]
    assert table(aside=["who", "day"]).feature_names == ("a",)
    assert table(splits=Splits(groups="who"), keep=["who"], drop=["day"]).feature_names == ("who", "a")
    with pytest.raises(InputError, match=r"no column 'whom'\. Did you mean 'who'"):
        table(splits=Splits(groups="whom"), drop=["day"])
    with pytest.raises(InputError, match="time column 'who' holds what is neither number nor date"):
        table(time="who", drop=["day"])
