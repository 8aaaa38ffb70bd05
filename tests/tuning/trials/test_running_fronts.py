"""Fronts that grow point by point are those of all points sorted at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.running_fronts import RunningFronts

LOSS = st.integers(-3, 3).map(float)  # few values, so that ties and equal points are frequent


@given(st.integers(1, 3).flatmap(lambda dimension: st.lists(st.tuples(*[LOSS] * dimension), max_size=25)))
def test_after_each_point_they_are_the_fronts_of_those_so_far(points: list[tuple[float, ...]]) -> None:
    running = RunningFronts()
    for number, losses in enumerate(points):
        running.add(number, losses)
        expected = ranking.fronts(points[: number + 1])
        assert [sorted(front) for front in running.fronts] == expected
        for rank, front in enumerate(expected):
            assert {running.rank(points[index]) for index in front} == {rank}
    assert {key: own for front in running.fronts for key, own in front.items()} == dict(enumerate(points))
