"""Splits and folds against scikit-learn, index by index and in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.datasets import load_iris
from sklearn.model_selection import (
    KFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    check_cv,
    train_test_split,
)

from modelopt_cli.core.errors import InputError
from modelopt_cli.data.raw import RawData
from modelopt_cli.data.splits import SplitIndices, Splits, development, folds, pinned, split


def raw(samples: int = 100, classes: int = 3, own_test: int = 0, **changes: Any) -> RawData:
    values = {
        "inputs": np.zeros((samples, 2)),
        "targets": np.arange(samples) % classes,
        "task": "classification",
        "label_names": tuple(f"class{number}" for number in range(classes)),
        "test_indices": np.arange(samples - own_test, samples) if own_test else None,
    }
    return RawData(**(values | changes))  # type: ignore[arg-type]


def splits(**options: Any) -> Splits:
    return Splits.model_validate(options)


def all_of(indices: SplitIndices) -> list[int]:
    return [int(i) for part in (indices.train, indices.validation, indices.test) for i in part]


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("stratify", [True, False])
    @pytest.mark.parametrize("fraction", [0.1, 0.3, 0.37])
    def test_test_split_is_train_test_split_in_order(self, stratify: bool, fraction: float) -> None:
        targets = load_iris().target
        data = raw(150, targets=targets)
        rest, test = train_test_split(
            np.arange(150), test_size=fraction, random_state=42, stratify=targets if stratify else None
        )
        chosen = splits(test=fraction, seed=42, stratify=stratify)
        assert np.array_equal(development(data, chosen, 7), rest)
        indices = split(data, chosen, 7)
        assert np.array_equal(indices.test, test)
        train, validation = train_test_split(
            rest, test_size=30, random_state=42, stratify=targets[rest] if stratify else None
        )
        assert np.array_equal(indices.train, train)
        assert np.array_equal(indices.validation, validation)

    @pytest.mark.slow
    def test_a_plain_cv_is_scikit_learns(self) -> None:
        targets = np.random.default_rng(0).integers(0, 3, 90)
        data, indices = raw(90, targets=targets), np.random.default_rng(1).permutation(90)[:70]
        expected = check_cv(5, targets[indices], classifier=True)
        assert isinstance(expected, StratifiedKFold)
        pairs = list(expected.split(indices, targets[indices]))
        for (train, validation), (sk_train, sk_validation) in zip(folds(data, indices, 5), pairs, strict=True):
            assert np.array_equal(train, indices[sk_train])
            assert np.array_equal(validation, indices[sk_validation])

    @pytest.mark.parametrize("task", ["regression", "multilabel"])
    def test_without_classes_folds_are_plain(self, task: Any) -> None:
        data = raw(20, targets=np.linspace(0, 1, 20) if task == "regression" else np.ones((20, 2), int), task=task)
        for (_, mine), (_, theirs) in zip(folds(data, np.arange(20), 4), KFold(4).split(np.arange(20)), strict=True):
            assert np.array_equal(mine, theirs)

    def test_repeats(self) -> None:
        data, indices = raw(30), np.arange(30)
        stratified = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=5).split(indices, data.targets)
        for mine, theirs in zip(folds(data, indices, 3, 2, 5), stratified, strict=True):
            assert np.array_equal(mine[0], theirs[0])
        data = raw(30, task="regression")
        plain = RepeatedKFold(n_splits=3, n_repeats=2, random_state=5).split(indices)
        for mine, theirs in zip(folds(data, indices, 3, 2, 5), plain, strict=True):
            assert np.array_equal(mine[1], theirs[1])


class TestWhichSamples:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(12, 200),
        st.floats(0, 0.4),
        st.floats(0, 0.4),
        st.integers(0, 5),
        st.sampled_from([False, "auto"]),
    )
    def test_a_split_is_a_partition(
        self, samples: int, validation: float, test: float, seed: int, stratify: bool | str
    ) -> None:
        chosen = splits(validation=validation, test=test, stratify=stratify)
        indices = split(raw(samples), chosen, seed)
        assert sorted(all_of(indices)) == list(range(samples))
        assert len(indices.test) == int(np.ceil(test * samples))
        assert len(indices.validation) == int(np.ceil(validation * samples))
        assert all_of(split(raw(samples), chosen, seed)) == all_of(indices)

    def test_defaults(self) -> None:
        indices = split(raw(), None, 0)
        assert [len(part) for part in (indices.train, indices.validation, indices.test)] == [60, 20, 20]
        indices = split(raw(), splits(), 0)  # given, but without a test split
        assert [len(part) for part in (indices.train, indices.validation, indices.test)] == [80, 20, 0]
        assert len(development(raw(), None, 0)) == 100

    def test_own_test_samples(self) -> None:
        data = raw(120, own_test=20)
        for chosen in (None, splits(validation=0.2)):
            indices = split(data, chosen, 0)
            assert indices.test.tolist() == list(range(100, 120))
            assert (len(indices.train), len(indices.validation)) == (80, 20)
            assert np.array_equal(development(data, chosen, 0), np.arange(100))
        anew = split(data, splits(test=0.5), 0)
        assert len(anew.test) == 60
        assert len(split(data, splits(test=0), 0).test) == 0

    def test_given_indices(self) -> None:
        data = raw(10)
        indices = split(data, splits(validation=[7, 3], test=[9, 0]), 0)
        assert (indices.train.tolist(), indices.validation.tolist(), indices.test.tolist()) == (
            [1, 2, 4, 5, 6, 8], [7, 3], [9, 0],
        )  # fmt: skip
        assert sorted(development(data, splits(validation=[7, 3], test=[9, 0]), 0)) == list(range(1, 9))
        mixed = split(data, splits(validation=[7, 3], test=0.2), 0)
        assert not set(mixed.test) & {3, 7}
        assert sorted(all_of(mixed)) == list(range(10))
        assert set(development(data, splits(validation=[7, 3], test=0.2), 0)) == set(range(10)) - set(mixed.test)

    def test_the_seed(self) -> None:
        own = [all_of(split(raw(), splits(seed=4), seed)) for seed in (0, 1)]
        assert own[0] == own[1]
        assert all_of(split(raw(), splits(), 0)) != all_of(split(raw(), splits(), 1))
        assert all_of(split(raw(), splits(), 4)) == own[0]

    @pytest.mark.parametrize("own_test", [0, 20])
    @pytest.mark.parametrize("chosen", [None, Splits(), Splits(test=0.3, seed=9)])
    def test_pinned_splits_are_the_same_under_any_seed(self, own_test: int, chosen: Splits | None) -> None:
        data = raw(own_test=own_test)
        fixed = pinned(data, chosen, 11)
        assert all_of(split(data, fixed, 99)) == all_of(split(data, chosen, 11))

    def test_auto_stratifies_only_where_it_can(self) -> None:
        counts = np.bincount(raw().targets[split(raw(), splits(test=0.3), 0).test])
        assert counts.max() - counts.min() <= 1
        lonely = raw(10, targets=np.array([0] * 9 + [1]), classes=2)
        assert len(split(lonely, splits(test=0.2), 0).test) == 2


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "rule"),
        [
            ({"validation": 0.5, "test": 0.5}, "sum below 1"),
            ({"test": 1.0}, "less than 1"),
            ({"test": -0.1}, "greater than or equal to 0"),
            ({"test": [1, 1]}, "already taken"),
            ({"test": [1, 2], "validation": [2, 3]}, "already taken, e.g. 2"),
            ({"test": [-1]}, "greater than or equal to 0"),
            ({"seed": -1}, "greater than or equal to 0"),
            ({"test": "0.2"}, "valid"),
            ({"holdout": 0.2}, "Extra inputs"),
        ],
    )
    def test_in_the_file(self, options: dict[str, Any], rule: str) -> None:
        with pytest.raises(ValidationError, match=rule):
            splits(**options)

    @pytest.mark.parametrize(
        ("data", "options", "rule"),
        [
            (raw(10), {"test": [10]}, "sample 10, but there are 10"),
            (raw(3, classes=2), {"test": 0.4, "validation": 0.5}, "none remains"),
            (raw(2, classes=2), {"validation": [0, 1]}, "left to train on"),
            (raw(10, own_test=3), {"validation": [9]}, "own test split"),
            (raw(10, task="regression"), {"stratify": True, "test": 0.2}, "the task is regression"),
            (raw(10, classes=2, targets=np.array([0] * 9 + [1])), {"stratify": True}, "class 'class1' has 1 samples"),
        ],
    )
    def test_with_the_data(self, data: RawData, options: dict[str, Any], rule: str) -> None:
        with pytest.raises(InputError, match=rule):
            split(data, splits(**options), 0)

    def test_folds(self) -> None:
        data = raw(10, classes=2, targets=np.array([0] * 7 + [1] * 3))
        with pytest.raises(InputError, match="class 'class1' has 3 samples, fewer than the cv of 5"):
            folds(data, np.arange(10), 5)
        with pytest.raises(InputError, match="cv is 11"):
            folds(data, np.arange(10), 11)
        with pytest.raises(InputError, match="cv is 1"):
            folds(data, np.arange(10), 1)
