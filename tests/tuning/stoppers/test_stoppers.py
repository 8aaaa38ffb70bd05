"""Contract of every stopper (a new file is tested at once), and what is particular to one.

(The private rungs are looked into for their arithmetic.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.stoppers._rungs import Reached, at_rung, crossed
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.stoppers.hyperband import Hyperband
from modelopt_cli.tuning.stoppers.patience import Patience
from modelopt_cli.tuning.stoppers.threshold import Threshold
from modelopt_cli.tuning.stoppers.wilcoxon import Wilcoxon
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.indexed import derived
from modelopt_cli.tuning.trials.trial import Point, State, Trial

NAMES = FAMILIES["stoppers"].names()
NEEDED = {"threshold": {"condition": "loss <= 1e9"}}


def build(name: str) -> Stopper:
    stopper = FAMILIES["stoppers"].get(name).model_validate(NEEDED.get(name, {}))
    assert isinstance(stopper, Stopper)
    return stopper


def trial(number: int, losses: Sequence[Any], state: State = State.RUNNING) -> Trial:
    """With a report after each step; a loss may be several."""
    points = [
        Point(step, {"loss": loss if isinstance(loss, float) else 0.0}, loss if isinstance(loss, tuple) else (loss,))
        for step, loss in enumerate(losses, start=1)
    ]
    return Trial(number, {}, number, state, tuple(points))


def search(stopper: Stopper, curves: Sequence[Sequence[float]]) -> list[int]:
    """Steps that each trial gets, all of them growing in turn, step by step."""
    trials = [trial(number, []) for number in range(len(curves))]
    stopped: set[int] = set()
    for step in range(1, len(curves[0]) + 1):
        for number, curve in enumerate(curves):
            if number not in stopped:
                trials[number] = trial(number, curve[:step])
                if stopper.decide(trials[number], trials) is not None:
                    stopped.add(number)
    return [len(one.curve) for one in trials]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_compare_with_stops_nobody(name: str) -> None:
    stopper = build(name)
    assert stopper.decide(trial(0, []), [trial(0, [])]) is None
    assert stopper.decide(trial(0, [3.0]), [trial(0, [3.0])]) is None
    nothing = Trial(0, {}, 0, State.RUNNING, (Point(1, {}, None),))
    assert stopper.decide(nothing, [nothing]) is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("objectives", [1, 2])
def test_the_best_trial_is_never_stopped(name: str, objectives: int) -> None:
    stopper = build(name)
    others = [trial(number, [(5.0 + number,) * objectives] * 9, State.COMPLETED) for number in range(1, 9)]
    for steps in range(1, 10):
        best = trial(0, [(1.0 / step,) * objectives for step in range(1, steps + 1)])
        assert stopper.decide(best, [best, *others]) is None


def goes_on(own: tuple[float, ...], reached: Sequence[tuple[float, ...]], factor: int) -> bool:
    """Whether one of those that have come to a rung goes on."""
    trials = [trial(number, [losses]) for number, losses in enumerate(reached)]
    return derived(trials, Reached, 1).goes_on(own, factor)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(2, 5))
def test_one_in_a_factor_goes_on_and_they_are_the_best(losses: list[float], factor: int) -> None:
    reached = [(loss,) for loss in losses]
    kept = [own for own in reached if goes_on(own, reached, factor)]
    count = max(1, len(losses) // factor)
    border = sorted(reached)[count - 1]
    assert kept == [own for own in reached if own <= border], "ties at the border go on together"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_of_several_objectives_whoever_is_dominated_by_enough_others_stops(points: list[tuple[int, int]]) -> None:
    reached = [(float(a), float(b)) for a, b in points]
    for own in reached:
        over = sum(all(x <= y for x, y in zip(other, own, strict=True)) and other != own for other in reached)
        if over >= max(1, len(reached) // 2):
            assert not goes_on(own, reached, 2)
    assert any(goes_on(own, reached, 2) for own in reached)


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Non-domination from the definition."""
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


POINTS = st.lists(st.tuples(st.integers(0, 3).map(float), st.integers(0, 3).map(float)), min_size=1, max_size=12)


@pytest.mark.slow
@given(POINTS, st.integers(2, 4))
def test_equal_points_go_on_or_stop_together(points: list[tuple[float, float]], factor: int) -> None:
    """Wherever they stand in the list, by which trials of one early stage come out alike."""
    for order in (points, points[::-1], sorted(points)):
        assert [goes_on(own, order, factor) for own in points] == [goes_on(own, points, factor) for own in points]


@given(POINTS, st.integers(1, 5))
def test_copies_of_a_point_crowd_nobody_of_its_front_out(points: list[tuple[float, float]], copies: int) -> None:
    """More trials of the same early stage stop no other that is not beaten: whoever went on without them goes on."""
    front = [own for own in points if not any(beats(other, own) for other in points)]
    for copied in dict.fromkeys(front):
        more = [*points, *[copied] * copies]
        kept = [own for own in front if goes_on(own, points, 3)]
        assert all(goes_on(own, more, 3) for own in kept)


def test_a_new_student_is_not_stopped_by_how_often_another_one_was_tried() -> None:
    """Twenty trials prune one dense model, whose training they replay; three students lie beside it on the front."""
    dense, students = (-0.98, 9000.0), [(-0.97, 4000.0), (-0.96, 2500.0), (-0.9, 500.0)]
    reached = [*[dense] * 20, *students]
    assert all(goes_on(own, reached, 3) for own in reached)
    assert not goes_on((-0.8, 9000.0), [*reached, (-0.8, 9000.0)], 3), "one that all of them beat"


@pytest.mark.parametrize("name", NAMES)
def test_trials_that_report_the_same_stop_nobody(name: str) -> None:
    """Cached stages replay their curve: nothing is known yet of what the trials differ in."""
    stopper = build(name)
    curve = [(1.0 / step, 9000.0) for step in range(1, 5)]
    alike = [trial(number, curve, State.COMPLETED if number < 6 else State.RUNNING) for number in range(12)]
    assert all(stopper.decide(each, alike) is None for each in alike)


GOALS = [Goal("validation.accuracy", maximize=True), Goal("model.parameters", maximize=False)]


@pytest.mark.parametrize(
    ("stopper", "curve", "reason"),
    [
        (
            Asha(),
            [(-0.5, 900.0)],
            "validation.accuracy 0.5 and model.parameters 900 are not among the best 3 of 10 trials at step 1, by "
            "non-domination",
        ),
        (
            Hyperband(brackets=1),
            [(-0.5, 900.0)],
            "validation.accuracy 0.5 and model.parameters 900 are not among the best 3 of 10 trials of bracket 0 at "
            "step 1, by non-domination",
        ),
        (
            Patience(reports=2),
            [(-0.5, 900.0)] * 3,
            "none of validation.accuracy and model.parameters has improved for 2 reports",
        ),
    ],
)
def test_a_reason_names_the_objectives(stopper: Stopper, curve: list[tuple[float, float]], reason: str) -> None:
    others = [trial(number, [(-0.9, 100.0 + number)], State.STOPPED) for number in range(9)]
    own = trial(9, curve)
    assert stopper.reason(own, [*others, own], GOALS) == reason
    assert Patience(reports=1).reason(trial(0, [1.0, 1.0]), [], GOALS[1:]) == (
        "model.parameters has not improved for 1 report"
    )


def test_rungs_are_where_a_report_reaches_or_passes_them() -> None:
    def after(*steps: int) -> Trial:
        return Trial(0, {}, 0, State.RUNNING, tuple(Point(step, {}, (float(step),)) for step in steps))

    assert [crossed(after(*range(1, n + 1)), 2, 3) for n in range(1, 8)] == [None, 2, None, None, None, 6, None]
    assert crossed(after(5), 2, 3) == 2
    assert crossed(after(5, 20), 2, 3) == 18, "the last one that was stepped over"
    assert crossed(after(), 1, 2) is None
    assert at_rung(after(5, 20), 6) == (20.0,)
    assert at_rung(after(5), 6) is None


def test_asha_gives_steps_to_good_trials() -> None:
    curves = [[float(number)] * 27 for number in (5, 3, 8, 0, 7, 1, 6, 2, 4)]
    stopped = search(Asha(), curves)
    assert stopped[3] == 27
    assert sum(stopped) < 9 * 27 / 2
    assert all(steps in (1, 3, 9, 27) for steps in stopped)
    assert search(Asha(min_steps=28), curves) == [27] * 9


def test_the_worst_of_many_stops_at_the_first_rung() -> None:
    others = [trial(number, [0.1 * number], State.STOPPED) for number in range(9)]
    own = trial(9, [5.0])
    assert Asha().decide(own, [*others, own]) == "loss 5 is not among the best 3 of 10 trials at step 1"
    named = Asha().reason(trial(9, [-0.5]), [trial(0, [-0.75]), trial(9, [-0.5])], [Goal("accuracy", maximize=True)])
    assert named == "accuracy 0.5 is not among the best 1 of 2 trials at step 1"
    assert Asha().decide(trial(9, [0.15]), [*others, trial(9, [0.15])]) is None


def test_hyperband_with_one_bracket_is_asha() -> None:
    curves = [[float((7 * number) % 11 + step % 3) for step in range(30)] for number in range(11)]
    assert search(Hyperband(brackets=1), curves) == search(Asha(), curves)


def test_hyperband_deals_trials_and_compares_them_within_their_bracket() -> None:
    band = Hyperband()
    dealt = Counter(band.bracket(number) for number in range(9 + 5 + 3))
    assert dealt == {0: 9, 1: 5, 2: 3}
    late = next(number for number in range(20) if band.bracket(number) == 2)
    early = [trial(number, [0.0] * 9) for number in range(9)]
    own = trial(late, [5.0] * 8)
    assert band.decide(own, [*early, own]) is None, "its bracket has no rung before step 9, and no other trial"
    rival = trial(late + 1, [1.0] * 9)
    at_nine = trial(late, [5.0] * 9)
    reason = band.decide(at_nine, [*early, at_nine, rival])
    assert reason == "loss 5 is not among the best 1 of 2 trials of bracket 2 at step 9"


def test_a_threshold_holds_after_its_warm_up() -> None:
    stopper = Threshold(condition="loss <= 0.5", warmup_steps=2)
    assert stopper.decide(trial(0, [0.9, 0.9]), []) is None
    assert stopper.decide(trial(0, [0.9, 0.9, 0.9]), []) == "loss is 0.9, but must meet loss <= 0.5"
    assert stopper.decide(trial(0, [0.9, 0.9, 0.5]), []) is None
    with pytest.raises(ValueError, match="condition"):
        Threshold(condition="loss")


def means(values: Sequence[float]) -> list[float]:
    return [sum(values[: n + 1]) / (n + 1) for n in range(len(values))]


def test_wilcoxon_compares_folds_pair_by_pair() -> None:
    best = [0.1, 0.5, 0.2, 0.9, 0.3, 0.4]
    done = trial(0, means(best), State.COMPLETED)
    gaps = [0.01, 0.02, 0.03, 0.04, 0.05]
    worse = trial(1, means([a + b for a, b in zip(best, gaps, strict=False)]))
    expected = wilcoxon(gaps, alternative="greater").pvalue
    assert Wilcoxon().decide(worse, [done, worse]) == f"worse than trial 0 on 5 folds (Wilcoxon's p = {expected:.3g})"
    assert Wilcoxon(p=0.01).decide(worse, [done, worse]) is None, "five folds cannot give a p-value below 1/32"
    three = trial(1, means([a + 0.1 for a in best[:3]]))
    assert Wilcoxon().decide(three, [done, three]) is None
    mixed = trial(1, means([0.2, 0.4, 0.4, 0.8, 0.35]))
    assert Wilcoxon().decide(mixed, [done, mixed]) is None
    by_fold = trial(1, [a + b for a, b in zip(best, gaps, strict=False)])
    own = trial(0, best, State.COMPLETED)
    assert Wilcoxon(reports="values").decide(by_fold, [own, by_fold]) is not None
    assert Wilcoxon().decide(worse, [trial(0, means(best)), worse]) is None, "nobody is complete"


@pytest.mark.parametrize(
    ("objective", "sign", "expected"),
    [
        ("maximize accuracy", -1, "accuracy 0.5767 after step 2 is below the median 0.71 of 5 trials"),
        ("minimize error", 1, "error 0.71 after step 2 is above the median 0.5767 of 5 trials"),
    ],
)
def test_a_reason_speaks_of_the_objective_as_the_user_does(objective: str, sign: int, expected: str) -> None:
    worse, better = (0.5767, 0.71) if sign < 0 else (0.71, 0.5767)
    metric = objective.split()[1]
    study = Study({"x": {"float": [0, 1]}}, "random", objective, stopper="median")
    for value in [better] * 5 + [worse]:
        running = study.ask()
        for step in (1, 2):
            study.report(running, step, {metric: value, "loss": 9.0})
        reason = study.should_stop(running)
        study.tell(running, {metric: value}, stopped=reason or "")
    assert study.trials[-1].reason == expected


def test_of_several_objectives_each_is_named() -> None:
    study = Study({"x": {"float": [0, 1]}}, "random", ["maximize accuracy", "minimize seconds"], stopper="wilcoxon")
    for better in (1.0, 0.0):
        running = study.ask()
        for step in range(1, 7):
            study.report(running, step, {"accuracy": 0.5 + 0.3 * better, "seconds": 2.0 - better - 0.01 * step})
        reason = study.should_stop(running)
        study.tell(running, {"accuracy": better, "seconds": 1.0}, stopped=reason or "")
    assert study.trials[1].reason.startswith("accuracy worse than trial 0 on 6 folds")
    assert "; seconds worse than trial 0" in study.trials[1].reason
