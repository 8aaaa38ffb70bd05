"""Settings as rows of numbers, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelopt_cli.tuning.samplers._common.encoding import Encoding, share_bounds
from modelopt_cli.tuning.samplers._skopt import features
from modelopt_cli.tuning.space.space import Space
from tests.support.sampler_histories import CONDITIONAL

SPACE = Space.from_spec(
    {
        "lr": {"float": [1e-4, 1.0], "log": True},
        "opt": {
            "choice": [
                {"type": "sgd", "m": {"float": [0.0, 0.99]}},
                {"type": "adam", "b": {"choice": ["x", "y", "z"]}},
            ]
        },
        "width": {"int": [1, 300], "log": True},
    }
)


def test_settings_go_to_numbers_and_categories_and_back() -> None:
    encoding = Encoding(SPACE)
    codes = encoding.snap(np.random.default_rng(0).random((200, SPACE.dim)))
    points = encoding.points(codes)
    again = encoding.snap(encoding.unsnapped(points))
    np.testing.assert_allclose(again, codes, atol=1e-12)
    assert [SPACE.decode(code) for code in again] == [SPACE.decode(code) for code in codes]
    assert (points.categories[:, 0] >= 0).all(), "the choice itself always counts"
    assert ((points.categories[:, 1] >= 0) == (points.categories[:, 0] == 1)).all()
    absent = encoding.absent(codes)
    assert (absent[:, 1] == (points.categories[:, 0] == 1)).all(), "momentum is of sgd alone"


def test_features_of_snapped_points_are_those_of_their_settings() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((200, CONDITIONAL.dim))
    snapped = Encoding(CONDITIONAL).snap(points)
    exact = np.stack([CONDITIONAL.encode(CONDITIONAL.decode(row)) for row in points])
    np.testing.assert_allclose(snapped, exact, rtol=0, atol=1e-12)
    matrix = features(CONDITIONAL, snapped)
    columns = 1 + 2 + 1 + 2 + 1 + 1 + 1 + 3 + 1  # lr, opt, m, n, k, hidden, batch (ordered), act, size
    assert matrix.shape[1] == columns
    assert np.all((matrix >= 0) & (matrix <= 1))


def test_codes_of_large_integers_whose_logarithms_are_equal() -> None:
    large = 281474963430337  # floats do not tell log(large - 1/2) from log(large + 1/2)
    space = Space.from_spec({"x": {"int": [large, large], "log": True}, "y": {"float": [0, 1]}})
    codes = Encoding(space).snap(np.array([[0.0, 0.5], [1.0, 0.5]]))
    np.testing.assert_array_equal(codes[:, 0], space.encode({"x": large, "y": 0.5})[0])
    low, high = share_bounds(space.parameters[0], codes[:, 0])
    assert (low.tolist(), high.tolist()) == ([0.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize(
    ("spec", "ordered"),
    [
        ([16, 32, 64], True),
        ([3.0, 2, 1], True),
        ([1, 2], False),  # of two values each is the other's only neighbour
        ([1, 3, 2], False),
        ([1, 1.0, 2], False),
        ([True, False, None], False),
        (["a", "b", "c"], False),
        ({"ordinal": ["c", "a", "b"]}, True),
        ({"float": [0, 1]}, True),
    ],
)
def test_which_values_are_taken_as_numbers(spec: Any, ordered: bool) -> None:
    [parameter] = Space.from_spec({"x": spec}).parameters
    assert parameter.ordered == ordered
