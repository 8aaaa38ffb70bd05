"""When a search has seen enough: each rule by hand, and in the loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelopt_cli.core.conditions import Goal
from modelopt_cli.tuning.executors.processes import Processes
from modelopt_cli.tuning.executors.serial import Serial
from modelopt_cli.tuning.schedulers.successive_halving import SuccessiveHalving
from modelopt_cli.tuning.search.search import Search
from modelopt_cli.tuning.search.settings import TuningSettings
from modelopt_cli.tuning.search.stop_when import StopWhen, last_improvement
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.ranking import non_dominated
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.search_objectives import CurveObjective

LINE = Space.from_spec({"x": {"float": [0, 1]}})
LOSS = [Goal.parse("minimize loss")]


def ended(losses: list[Any], violations: list[float] | None = None) -> list[Trial]:
    """Trials with these losses; None: failed."""
    trials = []
    for number, loss in enumerate(losses):
        pair = loss if isinstance(loss, tuple) or loss is None else (loss,)
        state = State.FAILED if loss is None else State.COMPLETED
        metrics = {} if pair is None else {"loss": pair[0]}
        violation = violations[number] if violations else 0.0
        trials.append(Trial(number, {"x": 0.0}, 0, state, losses=pair, metrics=metrics, violation=violation))
    return trials


@pytest.mark.parametrize(
    ("losses", "delta", "last"),
    [
        ([], 0.0, None),
        ([None, None], 0.0, None),
        ([3.0, 2.0, 2.0, 5.0], 0.0, 1),
        ([3.0, 2.9, 2.8, 2.7], 0.25, 3),  # small steps add up
        ([3.0, 2.9, 2.8], 0.25, 0),
        ([None, 3.0, None, 1.0, None], 0.0, 3),
        ([(1, 5), (5, 1), (3, 3), (3, 3), (4, 4)], 0.0, 2),
        ([(1, 5), (5, 1), (0.9, 5.0), (1, 4.5)], 0.2, 3),
    ],
)
def test_the_last_improvement(losses: list[Any], delta: float, last: int | None) -> None:
    assert last_improvement(ended(losses), delta) == last


def test_less_violation_is_an_improvement_whatever_the_loss() -> None:
    assert last_improvement(ended([1.0, 5.0, 9.0, 0.0], [2.0, 1.0, 0.0, 0.5]), 0.0) == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_an_improvement_is_a_change_of_the_front(points: list[tuple[float, float]]) -> None:
    fronts = [{points[i] for i in non_dominated(points[:stop])} for stop in range(len(points) + 1)]
    changes = [index for index in range(len(points)) if fronts[index + 1] != fronts[index]]
    assert last_improvement(ended(points), 0.0) == changes[-1]


def test_no_improvement_tells_its_figure() -> None:
    rule = StopWhen(no_improvement=3)
    assert rule.verdict(LINE, ended([3.0, 1.0, 2.0, 2.0]), LOSS) == ""
    text = rule.verdict(LINE, ended([3.0, 1.0, 2.0, None, 2.0]), LOSS)
    assert text == "stop_when.no_improvement: 3 trials without a better best trial since trial 1"
    assert "front" in rule.verdict(LINE, ended([(1, 1), (2, 2), (2, 2), (2, 2)]), LOSS * 2)


@pytest.mark.parametrize(
    ("target", "goal", "losses", "reached"),
    [
        (0.5, "minimize loss", [0.6, 0.4, 0.1], "loss is 0.1 in trial 2 (loss <= 0.5)"),
        (0.5, "minimize loss", [0.6, 0.51], ""),
        (0.5, "maximize loss", [-0.4, -0.9], "loss is 0.9 in trial 1 (loss >= 0.5)"),
        ("loss < 0.3", "minimize loss", [0.3], ""),
        ("loss < 0.3", "minimize loss", [0.3, 0.29], "loss is 0.29 in trial 1 (loss < 0.3)"),
        ("size <= 1", "minimize loss", [0.3], ""),
    ],
)
def test_a_target(target: Any, goal: str, losses: list[float], reached: str) -> None:
    trials = ended(losses)
    if goal.startswith("max"):  # losses are metrics turned round
        trials = [Trial(t.number, t.params, 0, t.state, losses=t.losses, metrics={"loss": -t.loss}) for t in trials]  # type: ignore[operator]
    text = StopWhen(target=target).verdict(LINE, trials, [Goal.parse(goal)])
    assert text == (f"stop_when.target: {reached}" if reached else "")


def test_a_target_that_breaks_a_constraint_is_not_reached() -> None:
    assert StopWhen(target=0.5).verdict(LINE, ended([0.1, 0.9], [1.0, 0.0]), LOSS) == ""


@pytest.mark.parametrize("executor", [Serial(), Processes()], ids=["serial", "processes"])
def test_a_search_ends_and_what_is_under_way_is_finished(executor: Any) -> None:
    study = Study({"x": [0.5, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]}, "grid")
    rule = StopWhen(no_improvement=2)
    result = Search(
        study,
        executor.open(CurveObjective(), workers=2),
        trials=9,
        converged=lambda t: rule.verdict(study.space, t, LOSS),
    ).run()
    assert result.reason == "converged"
    assert result.why.startswith("stop_when.no_improvement: 2 trials without")
    assert 4 <= len(study.trials) <= 5
    assert all(trial.state is State.COMPLETED for trial in study.trials)
    if isinstance(executor, Serial):
        assert len(study.trials) == 4


def test_what_is_paused_when_there_is_enough_counts_as_of_its_last_report() -> None:
    study = Study({"x": {"float": [0, 1]}}, "random")
    rule = StopWhen(target=0.9)
    result = Search(
        study,
        Serial().open(CurveObjective()),
        trials=9,
        scheduler=SuccessiveHalving(factor=2),
        converged=lambda t: rule.verdict(study.space, t, LOSS) if len(t) > 5 else "",
    ).run()
    assert result.reason == "converged"
    assert all(trial.state.finished for trial in study.trials)
    held = [trial for trial in study.trials if trial.reason == "the search had found enough"]
    assert held
    assert all(trial.losses == trial.curve[-1].losses for trial in held)


def test_a_resumed_search_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    rule = StopWhen(target=0.3, regret_below=1e-9)
    outcomes = []
    for limits in ((99,), (2, 3, 99, 99)):
        path = tmp_path / f"{len(limits)}"
        for limit in limits:
            with Study({"x": {"float": [0, 1]}}, seed=3, path=path) as study:
                result = Search(
                    study,
                    Serial().open(CurveObjective()),
                    trials=30,
                    converged=lambda t: rule.verdict(study.space, t, LOSS),
                    stop=lambda: sum(trial.state.finished for trial in study.trials) >= limit,  # noqa: B023
                ).run()
                trials = [(trial.params, trial.losses) for trial in study.trials if trial.state.finished]
        assert result.reason == "converged"
        assert "stop_when.target: loss is" in result.why
        outcomes.append((trials, result.why))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0][0]) < 30


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({}, "has no rule"),
        ({"min_delta": 0.1, "target": 1.0}, "belongs to no_improvement"),
        ({"no_improvement": 0}, "greater than or equal to 1"),
        ({"regret_below": 0.0}, "greater than 0"),
        ({"target": "accuracy"}, "is no condition"),
        ({"target": "test.accuracy >= 0.9"}, "looks at the test split"),
        ({"no_improvment": 3}, "no_improvment"),
    ],
)
def test_sections_that_make_no_sense(section: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        StopWhen.model_validate(section)


@pytest.mark.parametrize(
    ("section", "rule"),
    [({"regret_below": 0.1}, "regret_below is about one objective"), ({"target": 0.9}, "write a condition")],
)
def test_what_several_objectives_cannot_have(section: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        TuningSettings.model_validate({"objective": ["minimize loss", "minimize size"], "stop_when": section})
    TuningSettings.model_validate({"objective": "minimize loss", "stop_when": section})


@pytest.mark.slow
def test_rules_without_a_regret_load_no_process() -> None:
    """A study, the tpe sampler and counting rules need no Gaussian process."""
    code = (
        "import sys\n"
        "from modelopt_cli.core.conditions import Goal\n"
        "from modelopt_cli.tuning.search.stop_when import StopWhen\n"
        "from modelopt_cli.tuning.study.study import Study\n"
        "study = Study({'x': {'float': [0, 1]}}, 'tpe')\n"
        "for _ in range(12):\n"
        "    trial = study.ask()\n"
        "    study.tell(trial, trial.params['x'])\n"
        "rule = StopWhen(no_improvement=3, target=-1.0)\n"
        "rule.verdict(study.space, study.trials, study.goals)\n"
        "loaded = [name for name in sys.modules if '._gp' in name or name.endswith('.regret')]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
