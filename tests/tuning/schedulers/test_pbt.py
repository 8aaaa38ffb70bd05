"""Population-based training: who is replaced by a copy of whom, from which state, and what is learnt on the way.

Private modules are looked into where a search shows their arithmetic only dimly: which states are kept, who is worst.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.errors import SearchError
from modelopt_cli.tuning.executors._paused_states import IN_BYTES, PausedStates
from modelopt_cli.tuning.executors._trial_run import AncestorRun
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.schedulers.pbt import Pbt
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.search.simulator import simulate
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.lineage import lineage, losses_at
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.search_objectives import Descent, DescentObjective
from tests.support.study_logs import replayed

SPACE = {"rate": {"float": [1e-3, 1], "log": True}}
TOTAL = 20


def error(rates: Sequence[float]) -> float:
    error = 1.0
    for rate in rates:
        error = (1 - rate) ** 2 * error + Descent.NOISE * rate**2
    return error


def rates(trials: Sequence[Trial], trial: Trial, step: int) -> list[float]:
    """The rate of each step that led to `step`, by the lineage."""
    legs = lineage(trials, trial)
    ends = [*(leg.born for leg in legs[1:]), step]
    return [leg.params["rate"] for leg, end in zip(legs, ends, strict=True) for _ in range(leg.born, end)]


def assert_curves_are_the_lineages(trials: Sequence[Trial]) -> None:
    for trial in trials:
        for point in trial.curve:
            assert point.metrics["loss"] == pytest.approx(error(rates(trials, trial, point.step)), rel=1e-12)


def plain(trials: Sequence[Trial]) -> list[Any]:
    return [(t.number, t.params, t.seed, str(t.state), t.curve, t.losses, t.parent, t.born, t.reason) for t in trials]


def searched(study: Study, trials: int = 8, executor: Any = None, workers: int = 1, **options: Any) -> Any:
    objective = options.pop("objective", DescentObjective(TOTAL))
    stop = options.pop("stop", lambda: False)
    failures = options.pop("max_failures", 10)
    return Search(
        study,
        (executor or Serial()).open(objective, workers=workers),
        trials=trials,
        scheduler=Pbt(**options),
        stop=stop,
        max_failures=failures,
    ).run()


def generation(trials: Sequence[Trial], step: int) -> list[Trial]:
    """Who came to a step, the best first."""
    came = [trial for trial in trials if trial.born < step <= trial.step]
    return sorted(came, key=lambda trial: losses_at(trials, trial, step) or ())


def test_one_worker_replaces_the_worst_fifth_of_each_generation_by_copies_of_the_best() -> None:
    study = Study(SPACE, "random", seed=3)
    searched(study, 10, resample=0.0)
    copies = [trial for trial in study.trials if trial.parent is not None]
    for step in range(2, TOTAL, 2):
        ranked = generation(study.trials, step)
        assert len(ranked) == 10
        stopped = {trial.number for trial in ranked if trial.step == step}
        assert stopped == {trial.number for trial in ranked[-2:]}
        born = [trial for trial in copies if trial.born == step]
        assert len(born) == 2
        for trial in born:
            assert trial.parent in {donor.number for donor in ranked[:2]}
            ratio = trial.params["rate"] / study.trials[trial.parent].params["rate"]
            assert ratio == pytest.approx(0.8) or ratio == pytest.approx(1.2) or trial.params["rate"] == 1.0
    assert sum(trial.step - trial.born for trial in study.trials) == 10 * TOTAL
    reason = "among the worst 2 of 10 at step 2: a copy of one of the best takes its place"
    assert reason in [trial.reason for trial in study.trials]


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "workers"), [(Serial(), 1), (Processes(), 2)], ids=["serial", "processes"])
def test_a_copy_goes_on_from_its_parents_state(executor: Any, workers: int) -> None:
    study = Study(SPACE, "random", seed=1)
    result = searched(study, 8, executor, workers)
    assert_curves_are_the_lineages(study.trials)
    copies = [trial for trial in study.trials if trial.parent is not None]
    assert len(copies) > (8 if workers == 1 else 4)  # how many, with two workers, depends on who is quicker
    parents = [study.trials[trial.parent or 0] for trial in copies]
    gone_on = [parent.step > trial.born for parent, trial in zip(parents, copies, strict=True)]
    assert any(gone_on), "a parent goes on by itself"
    assert not result.warnings


@pytest.mark.slow
def test_as_many_workers_as_members_wait_for_nobody(tmp_path: Path) -> None:
    with Study(SPACE, "random", seed=2, path=tmp_path / "s") as study:
        searched(study, 5, Processes(), workers=5)
        assert_curves_are_the_lineages(study.trials)
        assert sum(trial.state is State.COMPLETED for trial in study.trials) == 5
    again = replayed(tmp_path / "s", Pbt())
    assert again.first is None
    assert again.asked["decisions"] > 10


@pytest.mark.parametrize(("members", "seed"), [(3, 2), (5, 83), (8, 83), (5, 1)])
def test_members_of_many_speeds_end_as_many_as_they_began(members: int, seed: int) -> None:
    """With seed 2 the steps ran out between a stop and its copy; with 83 who was copied was to be stopped as well."""
    speeds = iter(np.random.default_rng(seed).integers(1, 10, size=200).tolist())

    def curve(params: Mapping[str, Any]) -> list[tuple[float, dict[str, float]]]:
        seconds = float(next(speeds))
        return [(seconds, {"loss": 1 / step + params["rate"]}) for step in range(1, TOTAL + 1)]

    study = Study({"rate": {"float": [0, 1]}}, "random", seed=seed)
    simulate(study, curve, trials=members, workers=members, scheduler=Pbt(interval=2))
    assert sum(trial.state is State.COMPLETED for trial in study.trials) == members
    assert all(trial.state.finished for trial in study.trials)


def test_who_is_fast_is_compared_where_others_have_come() -> None:
    """Nobody waits; the worst is always ahead, and is replaced once half have come to a step that it passed."""

    def curve(params: Mapping[str, Any]) -> list[tuple[float, dict[str, float]]]:
        bad = params["rate"] < 0.5
        return [(1.0 if bad else 1.5, {"loss": 1 / step + bad}) for step in range(1, TOTAL + 1)]

    initial = [{"rate": rate} for rate in (0.1, 0.6, 0.7, 0.8, 0.9)]
    study = Study({"rate": {"float": [0, 1]}}, "random", initial=initial)
    simulated = simulate(study, curve, trials=5, workers=5, scheduler=Pbt(interval=2, resample=0.0))
    assert study.trials[0].state is State.STOPPED
    assert study.trials[0].step <= 8
    copy = study.trials[5]
    assert copy.parent in range(1, 5)
    assert simulated.seconds < 1.2 * 1.5 * TOTAL


@pytest.mark.slow
def test_it_beats_the_best_constant_rate() -> None:
    """The rate has to fall, which no constant does: random search cannot come below the best of them."""
    best = min(error([10 ** (-3 + 3 * i / 3000)] * 60) for i in range(3001))
    for seed in range(3):
        curves = {}
        for name, scheduler in (("pbt", Pbt()), ("random", None)):
            study = Study(SPACE, "random", seed=seed)
            Search(study, Serial().open(DescentObjective(60)), trials=20, scheduler=scheduler).run()
            assert study.best is not None
            assert study.best.loss is not None
            curves[name] = study.best.loss
        assert curves["random"] >= best
        assert curves["pbt"] < 0.9 * best


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "workers"), [(Serial(), 1), (Processes(), 2)], ids=["serial", "processes"])
def test_states_that_are_lost_are_computed_again_along_the_lineage(tmp_path: Path, executor: Any, workers: int) -> None:
    """A search cut off twice: no state survives its pool."""
    warnings = []
    for limit in (10, 12, 1000):
        with Study(SPACE, "random", seed=5, path=tmp_path / "s") as study:
            result = searched(study, 8, executor, workers, stop=lambda most=limit: len(study.trials) >= most)
            assert_curves_are_the_lineages(study.trials)
            warnings += result.warnings
    assert result.reason == "completed"
    assert any("lost their state and were computed again" in warning for warning in warnings)


def test_a_full_disk_changes_nothing_but_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []
    for full in (False, True):
        study = Study(SPACE, "random", seed=7)
        if full:
            monkeypatch.setattr("modelopt_cli.tuning.executors._paused_states.IN_MEMORY", 0)
            monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError("full")))
        result = searched(study, 5)
        outcomes.append(plain(study.trials))
        assert bool(result.warnings) == full
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interval", "quantile", "acts"), [(2, 0.25, ["run"]), (3, 0.5, ["run", "raise", "raise copies"])]
)
def test_killed_after_any_event_one_worker_ends_the_same(
    tmp_path: Path, interval: int, quantile: float, acts: list[str]
) -> None:
    """Copies as well: each depends on the states before it."""
    options: dict[str, Any] = {"interval": interval, "quantile": quantile}
    space = {**SPACE, "act": acts}

    def run(path: Path) -> list[Any]:
        with Study(space, "random", seed=6, path=path) as study:
            searched(study, 6, objective=DescentObjective(8), max_failures=None, **options)
            return plain(study.trials)

    whole = tmp_path / "whole"
    expected = run(whole)
    assert sum(trial[6] is not None for trial in expected) >= 3
    assert any(trial[3] == "failed" for trial in expected) == (len(acts) > 1)
    with closing(sqlite3.connect(whole)) as connection:
        events = int(connection.execute("SELECT count(*) FROM events").fetchone()[0])
    for after in range(1, events, 5):
        path = tmp_path / str(after)
        shutil.copy(whole, path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM events WHERE sequence > ?", [after])
        assert run(path) == expected, f"cut off after event {after} of {events}"
        again = replayed(path, Pbt(**options))
        assert again.first is None


def test_states_of_nobody_who_is_needed_any_more_are_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    keep = PausedStates.keep

    def counted(self: PausedStates[bytes], numbers: Any) -> None:
        keep(self, numbers)
        held.append(len(self))

    monkeypatch.setattr(PausedStates, "keep", counted)
    searched(Study(SPACE, "random", seed=1), 10, population=5)
    assert max(held) == 5, "one a member, of one population at a time"
    assert held[-1] < 5


def test_failed_members_are_replaced_by_copies_of_good_ones() -> None:
    space = {**SPACE, "act": ["run", "raise"]}
    study = Study(space, "random", seed=1)
    searched(study, 6, max_failures=None)
    failed = [trial for trial in study.trials if trial.state is State.FAILED]
    assert failed
    assert all(trial.params["act"] == "raise" and trial.parent is None for trial in failed)
    assert sum(trial.state is State.COMPLETED for trial in study.trials) == 6
    assert_curves_are_the_lineages(study.trials)


def test_copies_that_always_fail_are_not_made_without_end() -> None:
    study = Study({**SPACE, "act": ["raise copies"]}, "random", seed=1)
    searched(study, 4, max_failures=None, objective=DescentObjective(6))
    assert sum(trial.state is State.FAILED for trial in study.trials) < 60
    assert not any(trial.state in (State.RUNNING, State.PAUSED) for trial in study.trials)
    with pytest.raises(SearchError, match="every trial failed"):
        searched(Study({**SPACE, "act": ["raise"]}, "random"), 4, max_failures=None)


def test_populations_come_one_after_the_other() -> None:
    study = Study(SPACE, "random", seed=1)
    searched(study, 12, population=4)
    begun = [trial.number for trial in study.trials if trial.parent is None]
    assert len(begun) == 12
    roots = [lineage(study.trials, trial)[0].number for trial in study.trials]
    population = [begun.index(root) // 4 for root in roots]
    assert population == sorted(population)
    assert sum(trial.step - trial.born for trial in study.trials) == 12 * TOTAL


def test_several_objectives_are_ranked_by_front() -> None:
    """Two that compromise stay; the one that is worse in both goes."""
    study = Study(SPACE, "random", ["minimize loss", "maximize rate"], seed=4)
    searched(study, 6, quantile=0.34)
    for step in range(2, TOTAL, 2):
        came = [trial for trial in study.trials if trial.born < step <= trial.step]
        losses = {trial.number: losses_at(study.trials, trial, step) or () for trial in came}
        for trial in came:
            if trial.step == step:
                beaten = [
                    all(a <= b for a, b in zip(other, losses[trial.number], strict=True)) for other in losses.values()
                ]
                assert sum(beaten) > 1, "itself, and one that is nowhere worse"
    assert any(trial.state is State.STOPPED for trial in study.trials)
    assert_curves_are_the_lineages(study.trials)


def test_the_last_known_losses_count_where_a_step_has_none() -> None:
    study = Study(SPACE, "random", seed=2)
    searched(study, 5, interval=3, objective=DescentObjective(12, evens=True))
    assert {trial.born for trial in study.trials} == {0, 3, 6, 9}
    for trial in study.trials:
        if trial.parent is not None:
            donor, replaced = study.trials[trial.parent], next(t for t in study.trials if t.step == trial.born)
            known = [losses_at(study.trials, each, trial.born) for each in (donor, replaced)]
            assert known[0] is not None
            assert known[1] is not None
            assert known[0] < known[1]


def test_who_says_nothing_of_the_objective_ranks_last() -> None:
    from modelopt_cli.tuning.schedulers._population import Population
    from modelopt_cli.tuning.trials.trial import Point

    def trial(number: int, loss: float | None) -> Trial:
        curve = (Point(4, {}, None if loss is None else (loss,)),)
        return Trial(number, {}, 0, State.PAUSED, curve)

    trials = [trial(number, loss) for number, loss in enumerate([0.4, None, 0.1, 0.9, 0.3])]
    population = Population(trials, trials, 5)
    assert population.worst(4, 0.4) == {1, 3}
    assert [donor.number for donor in population.donors(4, 0.4)] == [2, 4]
    equal = [trial(number, 0.5) for number in range(5)]
    assert not Population(equal, equal, 5).worst(4, 0.4), "nobody is worse than the best"


def test_states_of_a_lineage() -> None:
    """The youngest ancestor's that is of the step at which the next one went on; from there runs are computed."""
    grandparent = Trial(0, {"a": 1}, 10)
    parent = Trial(1, {"a": 2}, 11, parent=0, born=4)
    child = Trial(2, {"a": 3}, 12, parent=1, born=6)
    states = PausedStates(IN_BYTES)

    def computed(ancestors: Sequence[AncestorRun]) -> list[tuple[int, int, int]]:
        return [(ancestor.params["a"], ancestor.seed, ancestor.until) for ancestor in ancestors]

    lost = states.of(child, [grandparent, parent])
    assert (lost[0], computed(lost[1])) == (None, [(1, 10, 4), (2, 11, 6)])
    states.put(0, 4, b"0 at 4")
    older = states.of(child, [grandparent, parent])
    assert (older[0], computed(older[1])) == (b"0 at 4", [(2, 11, 6)])
    states.put(1, 6, b"1 at 6")
    assert states.of(child, [grandparent, parent]) == (b"1 at 6", ())
    states.put(1, 8, b"1 at 8")
    assert states.of(child, [grandparent, parent])[0] == b"0 at 4", "the parent has gone on since"
    states.put(2, 7, b"own")
    states.keep({0, 2})
    assert states.of(child, [grandparent, parent]) == (b"own", ())
    assert states.of(child, [grandparent, parent]) == (b"own", ()), "others may still copy it"
    states.keep({0})
    assert states.of(parent, [grandparent]) == (b"0 at 4", ())


@pytest.mark.parametrize(
    ("options", "trials", "space", "message"),
    [
        ({}, 1, SPACE, "tuning.trials is 1, but a population has at least 2 members"),
        ({"population": 4}, 10, SPACE, "population is 4 with tuning.trials 10"),
        ({"population": 12}, 10, SPACE, "population is 12 with tuning.trials 10"),
        (
            {"perturb": ("training.lr",)},
            4,
            {"training.lrs": [1, 2]},
            "perturb has 'training.lr', which is not searched",
        ),
        ({}, 4, {"model.hidden": [1, 2], "training.epochs": [1, 2]}, "nothing can change while a model is trained"),
        ({}, 4, {"training.loss": ["a", "b"]}, "nothing can change while a model is trained"),
        ({}, 4, SPACE, None),
        ({"population": 5}, 10, SPACE, None),
        ({"population": 5}, None, SPACE, None),
        ({"perturb": ("model",)}, 4, {"model.dropout": {"float": [0.1, 0.5]}}, None),
    ],
)
def test_what_makes_no_sense_is_told(
    options: Mapping[str, Any], trials: int | None, space: Mapping[str, Any], message: str | None
) -> None:
    problem = Pbt(**options).problem(trials, Space.from_spec(space))
    assert problem is None if message is None else message in (problem or "")
