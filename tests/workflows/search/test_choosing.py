"""Which trial is wanted: against a filter and a sort of one's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli.core.errors import UnmetError, UsageError
from modelopt_cli.tuning.trials.trial import State, Trial
from modelopt_cli.workflows.search.choosing import Wish, choose

SMALL = st.integers(0, 4).map(float)  # few values, so that ties are frequent


def trial(number: int, **metrics: float) -> Trial:
    named = {name.replace("_", ".", 1): value for name, value in metrics.items()}
    return Trial(number, {}, 0, State.COMPLETED, metrics=named, losses=(0.0,))


@given(st.lists(st.tuples(SMALL, SMALL, SMALL), min_size=1, max_size=12), SMALL)
def test_the_best_of_those_that_meet_the_conditions(rows: list[tuple[float, float, float]], bound: float) -> None:
    trials = [trial(at, validation_accuracy=a, model_size=b, model_time=c) for at, (a, b, c) in enumerate(rows)]
    wish = Wish.parse([f"validation.accuracy >= {bound}"], ["model.size", "model.time"], ["validation.accuracy"])
    meeting = [at for at, row in enumerate(rows) if row[0] >= bound]
    if not meeting:
        with pytest.raises(UnmetError):
            choose(trials, wish)
        return
    chosen = choose(trials, wish)
    expected = sorted(meeting, key=lambda at: (rows[at][1], rows[at][2], -rows[at][0], at))[0]
    assert (chosen.trial.number, chosen.meeting, chosen.among) == (expected, len(meeting), len(rows))


def test_what_comes_nearest_is_told() -> None:
    """Distances are shares of the bounds, so that bytes do not outweigh accuracies."""
    trials = [
        trial(0, validation_accuracy=0.98, model_size=2000.0),
        trial(1, validation_accuracy=0.96, model_size=1010.0),
        trial(2, validation_accuracy=0.50, model_size=900.0),
    ]
    wish = Wish.parse(["validation.accuracy >= 0.97", "model.size <= 1_000"], [], [])
    with pytest.raises(UnmetError) as caught:
        choose(trials, wish)
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        "none of 3 trials meets validation.accuracy >= 0.97 and model.size <= 1000; nearest comes trial 1: "
        "validation.accuracy 0.9600 (missed by 0.01), model.size 1,010 (missed by 10). Loosen --where"
    )


@pytest.mark.parametrize(
    ("where", "minimize", "maximize", "message"),
    [
        (["accuracy"], [], [], "is no condition"),
        ([], ["model.size <= 3"], [], "name one metric"),
        ([], ["model.size"], ["model.size"], "named twice"),
        (["test.accuracy >= 0.9"], [], [], "use validation.accuracy"),
        ([], [], ["test.accuracy"], "use validation.accuracy"),
        (["validation.acuracy >= 0.9"], [], [], "did you mean 'validation.accuracy'"),
        ([], ["model.sise"], [], "did you mean 'model.size'"),
    ],
)
def test_a_wish_that_makes_no_sense(where: list[str], minimize: list[str], maximize: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose([trial(0, validation_accuracy=0.9, model_size=1.0)], Wish.parse(where, minimize, maximize))
