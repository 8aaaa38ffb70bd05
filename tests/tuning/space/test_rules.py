"""Rules between searched values: their grammar, and that nobody ever suggests what breaks one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.strategy import FAMILIES
from modelopt_cli.tuning.schedulers import SchedulerContext
from modelopt_cli.tuning.schedulers._exploration import changing, explored  # private: a search shows few copies
from modelopt_cli.tuning.schedulers.freeze_thaw import FreezeThaw
from modelopt_cli.tuning.space.rules import Rule
from modelopt_cli.tuning.space.space import Space, SpaceError
from modelopt_cli.tuning.study.study import Study
from tests.support.sampler_histories import NAMES
from tests.support.space_strategies import SPECS

MIXED: dict[str, Any] = {
    "hidden.0": {"int": [8, 64]},
    "hidden.1": {"int": [8, 64], "log": True},
    "lr": {"float": [1e-4, 1.0], "log": True},
    "batch": [16, 32, 64, None],
    "o": {"choice": [{"type": "sgd", "m": {"float": [0.0, 0.9]}, "decay": 0.5}, {"type": "adam"}]},
}
RULES = ("hidden.0 >= hidden.1", "batch * lr <= 8", "o.m + 2 * lr < 1.1", "o.decay + o.m >= 0.6")


def keeps(params: dict[str, Any]) -> bool:
    """The rules, in Python."""
    batch, sgd = params["batch"], params["o"]["type"] == "sgd"
    return (
        params["hidden.0"] >= params["hidden.1"]
        and (batch is None or batch * params["lr"] <= 8)
        and (not sgd or (params["o.m"] + 2 * params["lr"] < 1.1 and 0.5 + params["o.m"] >= 0.6))
    )


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("a >= b", {"a": 2, "b": 2}, True),
        ("a>b", {"a": 2, "b": 2}, False),
        ("2 * a - 1 == (b + 1) * 3", {"a": 5, "b": 2}, True),
        ("a - b - 1 != 0", {"a": 2, "b": 1}, False),
        ("1e-3 < a", {"a": 0.01}, True),
        ("-a * -1_000 <= .5", {"a": 1}, False),
        ("'my key' <= 3", {"my key": 4}, False),
        ("a-b <= 3", {"a-b": 4, "a": 0, "b": 0}, False),
        ("a <= b", {"a": 5}, True),
        ("a <= b", {"a": 5, "b": None}, True),
        ("a <= b", {"a": 5, "b": True}, True),
        ("a * a * 1.0 > 1", {"a": 10**200}, True),
        (f"a > {2**60}", {"a": 2**60 + 1}, True),
    ],
)
def test_a_rule_reckons_as_it_is_written(text: str, values: dict[str, Any], holds: bool) -> None:
    rule = Rule.parse(text)
    assert rule.holds(values.__getitem__) is holds
    assert Rule.parse(str(rule.fixed(dict[str, Any]().__getitem__))) == rule
    fixed = rule.fixed({"b": 2}.__getitem__)
    assert "b" not in fixed.paths
    assert Rule.parse(str(fixed)).holds({"b": 2, **values}.__getitem__) is rule.holds({**values, "b": 2}.__getitem__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it breaks off"),
        ("a", "it compares nothing"),
        ("a >", "it breaks off"),
        ("a > 1 > b", "two comparisons"),
        ("a > b c", "'c' stands after its end"),
        ("a / 2 > 1", "'/ 2 > 1' has no meaning"),
        ("a ** 2 > 1", r"'\*' stands where a path"),
        ("a = b", "'= b' has no meaning"),
        ("f(a) > 1", r"'\(' stands where a comparison"),
        ("__import__('os').system('x') > 1", "has no meaning"),
        ("(a > 1", "a bracket is not closed"),
        ("(" * 60 + "a" + ")" * 60 + " > 1", "more than 50 deep"),
        ("-" * 900 + "a > 1", "more than 50 deep"),
        ("a + " * 400 + "a > 1", "may have 1000"),
        ("1e > a", "'e' stands where"),
    ],
)
def test_what_is_no_rule_is_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule.parse(text)


@settings(deadline=None)
@given(st.text(alphabet="ab.01 +-*()<>=!'_e", max_size=40))
def test_any_text_is_a_rule_or_told(text: str) -> None:
    try:
        outcome: Rule | str = Rule.parse(text)
    except ValueError as error:
        outcome = str(error)
    assert "write" in outcome if isinstance(outcome, str) else isinstance(outcome.holds(lambda path: 1), bool)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_keeps_rules(name: str) -> None:
    spec = {**MIXED, "lr": {**MIXED["lr"], "count": 4}, "hidden.0": {"int": [8, 64], "count": 5}}
    branches = [{"type": "sgd", "m": {"float": [0.0, 0.9], "count": 3}, "decay": 0.5}, {"type": "adam"}]
    spec["o"] = {"choice": branches}
    study = Study(spec, name, seed=1, rules=RULES)
    for _ in range(14):
        trial = study.ask()
        assert keeps(trial.params), trial.params
        study.tell(trial, trial.params["hidden.1"] / 64 + abs(math.log10(trial.params["lr"]) + 2))
    assert len({trial.params["o"]["type"] for trial in study.trials}) == 2 or name == "grid"


@pytest.mark.slow
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(SPECS, st.sampled_from([f"{a} {sign} {b}" for a in "mz" for sign in ("<=", ">", "!=") for b in ("z * 2", "1")]))
def test_any_space_keeps_any_rule(spec: dict[str, Any], text: str) -> None:
    try:
        space = Space.from_spec(spec, [text])
    except SpaceError:
        assume(False)
        raise
    rng = np.random.default_rng(0)
    for params in [space.sample(rng) for _ in range(20)]:
        assert space.problem(params) is None
    for params in space.corners():
        assert space.problem(params) is None
    if space.size < 500:
        every = list(space.every())
        assert len(every) == space.size
        assert all(space.broken(params) is None for params in every)
        unruled = list(Space.from_spec(spec).every())
        assert sum(Rule.parse(text).holds(params.__getitem__) for params in unruled) == len(every)
    for name in ("random", "sobol", "evolution"):
        suggested = FAMILIES["samplers"].get(name)().suggest(space, [], rng, min(4, space.size))  # type: ignore[attr-defined]
        assert all(space.broken(params) is None for params in suggested)


@pytest.mark.slow
def test_a_tight_rule_is_kept_by_models_too() -> None:
    """One in some hundred random settings keeps it."""
    spec = {f"x{i}": {"float": [0, 1]} for i in range(3)}
    for sampler in ("bayesian", "tpe"):
        study = Study(spec, sampler, seed=0, rules=["x0 + x1 + x2 <= 0.4"])
        for _ in range(14):
            trial = study.ask()
            assert sum(trial.params.values()) <= 0.4
            study.tell(trial, sum((value - 0.2) ** 2 for value in trial.params.values()))
        assert study.best is not None
        assert study.best.loss is not None
        assert study.best.loss < 0.03


def test_a_grid_has_the_points_that_keep_the_rules() -> None:
    space = Space.from_spec({"a": {"int": [1, 4]}, "b": [1, 2, 3, 4]}, ["a > b"])
    assert space.size == space.grid_size == 6
    points = [(p["a"], p["b"]) for p in space.grid()]
    assert points == [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)]
    assert [(p["a"], p["b"]) for p in map(space.grid_point, range(6))] == points
    study = Study(space, "grid")
    assert [(t.params["a"], t.params["b"]) for t in study.ask_many(9)] == points
    large = Space.from_spec({f"x{i}": {"int": [1, 16]} for i in range(4)}, ["x0 > x1", "x2 > x3"])
    assert large.grid_size == 16**4, "too many to count"
    study = Study(large, "grid")
    for trial in study.ask_many(8):
        assert trial.params["x0"] > trial.params["x1"]
        assert trial.params["x2"] > trial.params["x3"]


def test_without_rules_nothing_changes() -> None:
    plain, ruled = Study(MIXED, "bayesian", seed=4), Study(MIXED, "bayesian", seed=4, rules=())
    for _ in range(10):
        first, second = plain.ask(), ruled.ask()
        assert first.params == second.params
        for study, trial in ((plain, first), (ruled, second)):
            study.tell(trial, trial.params["lr"])


def test_what_a_user_asks_for_keeps_them_too(tmp_path: Path) -> None:
    setting = {"hidden.0": 8, "hidden.1": 9, "lr": 0.01, "batch": 16, "o": {"type": "adam"}}
    study = Study(MIXED, "random", rules=RULES, path=tmp_path / "s")
    for ask in (study.queue, study.ask):
        with pytest.raises(UsageError, match=r"it breaks the rule 'hidden.0 >= hidden.1'; change a value, or the rule"):
            ask(setting)
    for _ in range(3):
        study.tell(study.ask(), 1.0)
    study.close()
    with Study.open(tmp_path / "s") as again:
        assert [str(rule) for rule in again.space.rules] == list(RULES)
        assert keeps(again.ask().params)
    with pytest.raises(UsageError, match="rules was"):
        Study(MIXED, "random", rules=RULES[:1], path=tmp_path / "s")
    with pytest.raises(UsageError, match="rules was"):
        Study(MIXED, "random", path=tmp_path / "s")


def test_earlier_trials_that_break_a_rule_are_left_out_and_told(tmp_path: Path) -> None:
    with Study(MIXED, "random", path=tmp_path / "s") as study:
        for _ in range(20):
            study.tell(study.ask(), 1.0)
        broken = sum(trial.params["hidden.0"] < trial.params["hidden.1"] for trial in study.trials)
    now = Study(MIXED, "tpe", rules=RULES[:1], earlier=[tmp_path / "s"])
    assert 0 < broken < 20
    assert len(now.warm_start.trials) == 20 - broken
    assert f"{broken} left out: they break the rule 'hidden.0 >= hidden.1'" in now.warm_start.text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["hidden.0 >= hiden.1"], "names 'hiden.1', which is not searched; Did you mean 'hidden.1'"),
        (["o.momentum >= 1"], "'o.momentum', which is not searched"),
        (["o.type > 1"], "compares 'o.type', which is never a number"),
        (["1 < 2"], "names nothing that is searched"),
        (["hidden.0 > 64"], "no setting of the space keeps 'hidden.0 > 64'"),
        (["hidden.0 > 40", "hidden.1 > hidden.0 + 24"], "keeps 'hidden.1 > hidden.0 .* 24', with 'hidden.0 > 40'"),
        (["lr + o.m == 0.3", "o.m > 0.1", "lr"], "it compares nothing"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Study(MIXED, "random", rules=rules)


def test_copies_of_a_population_keep_them() -> None:
    space = Space.from_spec({"a": {"float": [0, 1]}, "b": {"float": [0, 1]}}, ["a <= b"])
    rng = np.random.default_rng(0)
    parent = {"a": 0.5, "b": 0.5}
    copies = [explored(space, parent, changing(space, None), (0.8, 1.2), 0.25, rng) for _ in range(60)]
    assert all(copy["a"] <= copy["b"] for copy in copies)
    assert sum(copy != parent for copy in copies) > 50
    tight = Space.from_spec({"a": {"int": [1, 2]}, "b": {"int": [1, 2]}}, ["a + b == 3", "a < b"])
    only = {"a": 1, "b": 2}
    assert explored(tight, only, changing(tight, None), (0.8, 1.2), 0.0, rng) == only


def test_freeze_thaw_starts_what_keeps_them() -> None:
    space = Space.from_spec({f"x{i}": {"float": [0, 1]} for i in range(3)}, ["x0 + x1 + x2 <= 0.5"])
    study = Study(space, "random", seed=2)
    for _ in range(9):
        trial = study.ask()
        study.report_many(trial, [(1, {"loss": sum(trial.params.values())})], total=9)
        study.pause(trial)
    context = SchedulerContext(space, study.trials, (), 4, 9, 12, False, 0)
    decisions = FreezeThaw(initial_points=4).next(context)
    assert len(decisions) == 4
    for decision in decisions:
        params = getattr(decision, "params", None)
        assert params is None or sum(params.values()) <= 0.5
