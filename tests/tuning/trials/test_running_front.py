"""A front that grows trial by trial is the front of all trials."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.running_front import RunningFront
from modelopt_cli.tuning.trials.trial import State, Trial

LOSS = st.integers(-2, 2).map(float)  # few values, so that ties and duplicates are frequent


def ended(dimension: int) -> st.SearchStrategy[tuple[tuple[float, ...] | None, float, State]]:
    losses = st.one_of(st.tuples(*[LOSS] * dimension), st.none())
    states = st.sampled_from([State.COMPLETED, State.STOPPED, State.FAILED])
    return st.tuples(losses, st.sampled_from([0.0, 0.5, 2.0]), states)


@given(st.integers(1, 3).flatmap(lambda dimension: st.lists(ended(dimension), max_size=14)))
def test_after_each_trial_it_is_the_front_of_those_so_far(
    rows: list[tuple[tuple[float, ...] | None, float, State]],
) -> None:
    trials = [
        Trial(number, {}, 0, state, losses=None if state is State.FAILED else losses, violation=violation)
        for number, (losses, violation, state) in enumerate(rows)
    ]
    front, known = RunningFront(), set[int]()
    for trial in trials:
        left = front.add_trial(trial)
        expected = [each.number for each in ranking.front(trials[: trial.number + 1])]
        assert front.keys == expected
        assert set(left) == (known | {trial.number}) - set(expected), "who leaves is told, each once"
        known = set(expected)
    assert RunningFront.of(trials).keys == front.keys
