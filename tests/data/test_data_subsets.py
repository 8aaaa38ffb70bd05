"""Parts of a train split: nested, with every class by its share, and the latest samples of a series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import InputError
from modelopt_cli.data import subsets


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """(positions in some order, their classes)."""
    members = draw(st.lists(st.integers(1, 30), min_size=1, max_size=5))
    classes = np.repeat(np.arange(len(members)) * 2, members)  # numbers with gaps
    order = np.random.default_rng(draw(st.integers(0, 9))).permutation(len(classes))
    return order + 7, classes[order]


@pytest.mark.slow
@settings(max_examples=30)
@given(labelled(), st.integers(0, 5))
def test_parts_are_nested_and_have_each_class_by_its_share(data: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    indices, classes = data
    present = np.unique(classes)
    smaller: set[int] = set()
    for count in range(len(present), len(indices) + 1):
        part = subsets.drawn(indices, classes, count, seed)
        assert len(part) == len(set(part)) == count
        assert smaller < set(part) <= set(indices)
        assert [at for at in indices if at in set(part)] == list(part), "in the order in which they stood"
        smaller = set(part)
        counts = np.array([np.sum(classes[np.isin(indices, part)] == each) for each in present])
        assert counts.min() >= 1
    assert np.array_equal(part, indices), "all of them, untouched"


def test_shares_are_those_of_webster_and_sainte_lague() -> None:
    """The divisor method: the next seat goes to the greatest members / (seats + 1/2), after one seat each."""
    members = np.array([52, 24, 17, 6])  # without ties: no two have the same power of 2
    classes, indices = np.repeat(np.arange(4), members), np.arange(99)
    seats = np.ones(4)
    for count in range(4, 100):
        part = subsets.drawn(indices, classes, count, 0)
        assert np.array_equal(np.bincount(classes[part], minlength=4), seats), count
        seats[np.argmax(np.where(seats < members, members / (seats + 0.5), -1))] += 1


def test_a_seed_gives_one_part_and_another_seed_another() -> None:
    indices = np.arange(100)
    first = subsets.drawn(indices, None, 20, 3)
    assert np.array_equal(first, subsets.drawn(indices, None, 20, 3))
    assert not np.array_equal(first, subsets.drawn(indices, None, 20, 4))
    assert set(first) < set(subsets.drawn(indices, None, 21, 3))
    classes = np.tile([0, 1], 50)
    assert not np.array_equal(subsets.drawn(indices, classes, 20, 3), subsets.drawn(indices, classes, 20, 4))


def test_fewer_samples_than_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 of its 6 samples, for 3 classes; set tuning\.fidelity\.least to 0\.5"):
        subsets.drawn(np.arange(6), np.array([0, 1, 2, 0, 1, 2]), 2, 0)


def test_the_latest_are_the_last_of_the_source_in_the_order_of_the_split() -> None:
    indices = np.array([5, 1, 9, 3, 7])
    assert subsets.latest(indices, 2).tolist() == [9, 7]
    assert subsets.latest(indices, 3).tolist() == [5, 9, 7]
    assert subsets.latest(indices, 5).tolist() == indices.tolist()
