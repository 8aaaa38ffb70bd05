"""What a study keeps beside its trials, change by change, is what the trials alone give; and it keeps asks flat."""

from __future__ import annotations

import functools
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import TrialError
from modelopt_cli.tuning.samplers.random import Random
from modelopt_cli.tuning.schedulers import SchedulerContext
from modelopt_cli.tuning.search.simulator import simulate
from modelopt_cli.tuning.space.tried import Tried
from modelopt_cli.tuning.stoppers import Stopper
from modelopt_cli.tuning.stoppers.asha import Asha
from modelopt_cli.tuning.stoppers.hyperband import Hyperband
from modelopt_cli.tuning.study.study import Exhausted, Study
from modelopt_cli.tuning.study.warm_start import EarlierRun
from modelopt_cli.tuning.trials import ranking
from modelopt_cli.tuning.trials.by_state import ByState, in_state
from modelopt_cli.tuning.trials.indexed import IndexedTrials, derived
from modelopt_cli.tuning.trials.ranking import Losses, crowding, fronts
from modelopt_cli.tuning.trials.running_best import RunningBest
from modelopt_cli.tuning.trials.trial import State, Trial

SPACE: dict[str, Any] = {"x": {"float": [0, 1]}, "y": {"int": [0, 9]}}
STOPPERS: list[Stopper] = [Asha(factor=2), Asha(min_steps=2, factor=3), Hyperband(factor=2, brackets=2)]

STEPS = st.integers(1, 3)
LOSS = st.one_of(st.integers(0, 3).map(float), st.just(float("nan")))
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "report", "report", "report", "pause", "resume", "requeue", "cut", "end"]
        ),
        st.integers(0, 50),  # which one of those that it can happen to
        st.lists(st.tuples(STEPS, LOSS, LOSS), min_size=1, max_size=3),
    ),
    max_size=40,
)


def change(study: Study, kind: str, which: int, reports: Sequence[tuple[int, float, float]]) -> None:
    """One event of a study, where there is a trial that it can happen to."""
    possible = [trial for trial in study.trials if trial.state in POSSIBLE.get(kind, ())]
    if kind == "ask":
        study.ask()
    elif kind == "cut":  # as when the search is resumed
        study.requeue()
    elif possible:
        trial, values = possible[which % len(possible)], [{"a": a, "b": b} for _, a, b in reports]
        if kind == "report":
            step, points = trial.step, []
            for (further, _, _), metrics in zip(reports, values, strict=True):
                step += further
                points.append((step, metrics))
            study.report_many(trial, points)
        elif kind == "end":
            study.tell(trial, values[0], stopped="late" if which % 2 else "", counts=which % 3 > 0)
        else:
            getattr(study, kind)(trial)


POSSIBLE = {
    "report": (State.RUNNING,),
    "pause": (State.RUNNING,),
    "resume": (State.PAUSED,),
    "requeue": (State.RUNNING, State.PAUSED),
    "end": (State.RUNNING, State.PAUSED),
}


def at(trial: Trial, rung: int) -> Losses | None:
    """The losses of the first report at a rung or beyond."""
    return next((point.losses for point in trial.curve if point.step >= rung), None)


def among_the_best(own: Losses, reached: Sequence[Losses], factor: int) -> bool:
    """The rule of asha, by sorting all that have come to the rung."""
    count = max(1, len(reached) // factor)
    if len(own) == 1:
        return sum(other < own for other in reached) < count
    better = 0
    for front in fronts(reached):
        points = list(dict.fromkeys(reached[index] for index in front))
        if own in points:
            alone = crowding(points)
            return better + sum(gap > alone[points.index(own)] for gap in alone) < count
        better += len(front)
    raise AssertionError("not among those that have come there")


def asha_stops(asha: Asha, trial: Trial, trials: Sequence[Trial]) -> bool:
    """Whether asha stops a trial, from the definition."""
    before = trial.curve[-2].step if len(trial.curve) > 1 else 0
    rungs = [asha.min_steps * asha.factor**k for k in range(9)]
    crossed = [rung for rung in rungs if before < rung <= trial.curve[-1].step]
    own = at(trial, crossed[-1]) if crossed else None
    if own is None:
        return False
    reached = [losses for other in trials if (losses := at(other, crossed[-1])) is not None]
    return not among_the_best(own, reached, asha.factor)


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [1, 2])
@given(changes=CHANGES)
def test_whatever_happens_it_agrees_with_the_trials(objectives: int, changes: list[Any]) -> None:
    study = Study(SPACE, "random", ["minimize a", "minimize b"][:objectives])
    for kind, which, reports in changes:
        change(study, kind, which, reports)
        trials = study.trials
        assert tuple(study.history) == trials
        states = derived(study.history, ByState)
        for state in State:
            expected = [trial for trial in trials if trial.state is state]
            assert states.count(state) == len(expected)
            assert state.finished or in_state(study.history, state) == expected
        assert states.finished == sum(trial.state.finished for trial in trials)
        assert states.reports == sum(len(trial.curve) for trial in trials)
        assert derived(study.history, RunningBest).trial is study.best is ranking.best(trials)
        keys = {study.space.canonical(trial.params) for trial in trials}
        tried = derived(study.history, Tried, study.space)
        assert len(tried) == len(keys)
        assert all(key in tried for key in keys)
        for trial in trials:
            if trial.curve:
                for stopper in STOPPERS:
                    now = stopper.reason(trial, study.history, study.goals)
                    assert now == stopper.reason(trial, trials, study.goals), "kept, and from the trials alone"
                    assert not isinstance(stopper, Asha) or (now is not None) == asha_stops(stopper, trial, trials)


@pytest.mark.slow
@settings(max_examples=15)  # files are slow
@given(changes=CHANGES)
def test_a_study_that_is_read_again_has_the_same(changes: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("study") / "s"
    with Study(SPACE, "random", "minimize a", path=path) as study:
        for kind, which, reports in changes:
            change(study, kind, which, reports)
        study.requeue()
        before = study.trials
    with Study(SPACE, "random", "minimize a", path=path) as again:
        assert again.trials == tuple(again.history) == before
        for trial in before:
            if trial.curve:
                for stopper in STOPPERS:
                    assert stopper.decide(trial, again.history) == stopper.decide(trial, before)


def test_it_is_a_sequence_of_trials() -> None:
    study = Study(SPACE, "random")
    history = study.history
    assert not history
    study.ask_many(3)
    first = Trial(-1, {"x": 0.5, "y": 3}, 0, State.COMPLETED)
    joined = history.after([first])
    study.tell(1, 0.5)
    for view, expected in ((history, [*study.trials]), (joined, [first, *study.trials])):
        assert list(view) == expected
        assert list(reversed(view)) == expected[::-1]
        assert [view[index] for index in range(-len(view), len(view))] == expected * 2
        assert view[1:] == tuple(expected[1:])
        assert view[::-2] == tuple(expected[::-2])
        assert len(view) == len(expected)
        for outside in (len(view), -len(view) - 1):
            with pytest.raises(IndexError):
                view[outside]


def test_settings_of_earlier_runs_count_as_tried() -> None:
    space = {"x": [1, 2, 3]}
    earlier = Study(space, "random")
    earlier.tell(earlier.ask({"x": 2}), 0.5)
    study = Study(space, "random", earlier=[EarlierRun(earlier.trials)])
    tried = [study.ask().params["x"] for _ in range(2)]
    assert sorted(tried) == [1, 3]
    assert study.ask().params["x"] == 2, "the sampler has no more, and here it was not tried"
    with pytest.raises(Exhausted):
        study.ask()


def in_a_process_of_its_own(test: Callable[..., None]) -> Callable[..., None]:
    """Where torch.compile has run before, a process whose calls are noted (`sys.setprofile`) stands still for ever."""

    @functools.wraps(test)
    def run(*given: Any, **named: Any) -> None:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
            processes.submit(_call, test.__name__, given, named).result()

    return run


def _call(name: str, given: Sequence[Any], named: Mapping[str, Any]) -> None:
    globals()[name].__wrapped__(*given, **named)


def calls(work: Callable[[], object]) -> int:
    """How many functions are called (a generator that goes on counts again): work without a clock."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def grown(study: Study, trials: int) -> Study:
    while len(study.history) < trials:
        trial = study.ask()
        study.report(trial, 1, trial.params["x"])
        study.tell(trial, trial.params["x"])
    return study


@pytest.mark.parametrize("earlier", [False, True])
@in_a_process_of_its_own
def test_an_ask_costs_the_same_however_many_trials_there_are(earlier: bool) -> None:
    known = [EarlierRun(grown(Study(SPACE, "random", seed=1), 50).trials)] if earlier else []
    study = grown(Study(SPACE, "random", earlier=known), 50)
    early = calls(lambda: grown(study, 60))
    grown(study, 500)
    assert calls(lambda: grown(study, 510)) < 1.1 * early


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [1, 2])
@in_a_process_of_its_own
def test_a_decision_of_asha_hardly_grows(objectives: int) -> None:
    """One objective: the same calls; two: no more than the fronts grow, which is the root of the number of trials."""
    study = Study(SPACE, "random", ["minimize a", "minimize b"][:objectives], stopper=Asha(min_steps=1, factor=2))

    def decided(trials: int) -> None:
        while len(study.history) < trials:
            trial = study.ask()
            study.report(trial, 1, {"a": trial.params["x"], "b": (7 * trial.params["x"]) % 1})
            study.should_stop(trial)
            study.tell(trial, {"a": 1.0, "b": 1.0})

    decided(50)
    early = calls(lambda: decided(60))
    decided(450)
    assert calls(lambda: decided(460)) < (1.1 if objectives == 1 else 4) * early


@in_a_process_of_its_own
def test_a_simulated_search_costs_as_much_for_each_trial() -> None:
    def search(trials: int) -> Callable[[], object]:
        study = Study(SPACE, "random")
        curve = [(1.0, {"loss": 1.0 / step}) for step in range(1, 5)]
        return lambda: simulate(study, lambda params: curve, trials=trials, workers=20, stopper=Asha())

    search(50)()  # what is imported on the way is not counted
    assert calls(search(200)) < 4.4 * calls(search(50))


def test_a_context_reads_its_states_from_the_history_or_from_a_list() -> None:
    study = Study(SPACE, "random")
    study.ask_many(4)
    study.report(2, 1, 0.5)
    study.pause(2)
    study.tell(0, TrialError("crash", "lost"))
    contexts = [
        SchedulerContext(study.space, trials, [], 1, 1, 5, ending=False, seed=0)
        for trials in (study.history, study.trials)
    ]
    kept, plain = contexts
    assert kept.paused == plain.paused == [study.trials[2]]
    assert kept.rng().random() == plain.rng().random()


def test_a_samplers_suggestion_is_the_same_from_a_list(tmp_path: Path) -> None:
    import numpy as np

    study = grown(Study(SPACE, "random", path=tmp_path / "s"), 30)
    for seed in range(5):
        both = [
            Random().suggest(study.space, trials, np.random.default_rng(seed), 4)
            for trials in (study.history, study.trials, IndexedTrials(study.trials))
        ]
        assert both[0] == both[1] == both[2]
    study.close()
