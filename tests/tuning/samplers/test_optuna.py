"""Optuna's samplers on our histories, beside Optuna itself."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.errors import MissingExtraError, UsageError
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import State, Trial
from tests.support.sampler_histories import CONDITIONAL, SMOOTH, best, build, check, history, search, smooth

needs_it = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="the extra is missing: pip install 'modelopt-cli[optuna]'"
)
KNOWN = ["BruteForceSampler", "GPSampler", "NSGAIIISampler", "NSGAIISampler", "RandomSampler", "TPESampler"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sampler": "TPESample"},
            "unknown sampler of Optuna 'TPESample'.*'TPESampler'.*Known: BruteForceSampler, GPS",
        ),
        ({"sampler": "CmaEsSampler"}, "use the sampler 'cmaes' instead"),
        ({"sampler": "QMCSampler"}, "use the sampler 'sobol' instead"),
        ({"options": {"seed": 3}}, "leave it out"),
    ],
)
def test_names_and_options_are_checked_without_optuna(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("optuna", **options)


def test_without_it_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"modelopt-cli\[optuna\]"):
        Study(SMOOTH, "optuna")


@needs_it
def test_every_name_is_optunas_and_takes_its_options_before_the_search_begins() -> None:
    for name in KNOWN:
        Study({"k": {"int": [1, 20]}, "n": {"int": [1, 4]}}, {"type": "optuna", "sampler": name})
    with pytest.raises(UsageError, match="BruteForceSampler cannot search this space"):
        Study(SMOOTH, {"type": "optuna", "sampler": "BruteForceSampler"})
    with pytest.raises(UsageError, match=r"TPESampler takes no option 'multivariat'.*'multivariate'"):
        Study(SMOOTH, {"type": "optuna", "options": {"multivariat": True}})
    with pytest.raises(UsageError, match="NSGAIISampler cannot be made with"):
        Study(SMOOTH, {"type": "optuna", "sampler": "NSGAIISampler", "options": {"population_size": 1}})


@needs_it
@pytest.mark.parametrize("options", [{}, {"multivariate": True, "group": True}])
def test_a_suggestion_is_that_of_optuna_with_the_same_trials(options: dict[str, Any]) -> None:
    import optuna

    trials = search(build("random"), SMOOTH, smooth, 30, 0)
    [suggested] = build("optuna", options=options).suggest(SMOOTH, trials, np.random.default_rng(3), 1)
    axes = {
        "x": optuna.distributions.FloatDistribution(-2, 2),
        "y": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "k": optuna.distributions.IntDistribution(1, 20),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=int(np.random.default_rng(3).integers(2**31)), **options)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    for trial in trials:
        study.add_trial(optuna.trial.create_trial(params=trial.params, distributions=axes, value=trial.loss))
    asked = study.ask()
    theirs = {
        "x": asked.suggest_float("x", -2, 2),
        "y": asked.suggest_float("y", 1e-4, 1.0, log=True),
        "k": asked.suggest_int("k", 1, 20),
    }
    optuna.logging.set_verbosity(before)
    assert suggested == theirs


@needs_it
def test_a_trial_has_what_counts_in_it_its_state_and_its_violation() -> None:
    from optuna.trial import TrialState

    from modelopt_cli.tuning.samplers._optuna import Axes, completed_losses

    axes = Axes(CONDITIONAL)
    states = {State.COMPLETED: TrialState.COMPLETE, State.STOPPED: TrialState.COMPLETE, State.FAILED: TrialState.FAIL}
    trials = history(CONDITIONAL, 30)
    for trial, losses in zip(trials, completed_losses(trials), strict=True):
        frozen = axes.frozen(trial, losses, True)
        assert set(frozen.params) == set(trial.params)
        if trial.losses is None or not np.isnan(trial.losses[0]):
            assert frozen.state is states.get(trial.state, TrialState.RUNNING)
        if frozen.state is TrialState.COMPLETE:
            assert frozen.constraints == {"violation": min(trial.violation, 1e12)}
    twice = Space.from_spec({"o": {"choice": [{"t": 1, "m": {"int": [0, 1]}}, {"t": 2, "m": {"choice": ["u", "v"]}}]}})
    assert Axes(twice).names == ["o", "o.m#1", "o.m#2"]


@needs_it
@pytest.mark.parametrize("name", [name for name in KNOWN if name not in ("BruteForceSampler", "GPSampler")])
def test_other_samplers_keep_to_the_contract(name: str) -> None:
    for objectives in (1, 2):
        trials = history(CONDITIONAL, 40, objectives=objectives)
        settings = build("optuna", sampler=name).suggest(CONDITIONAL, trials, np.random.default_rng(1), 2)
        assert len(settings) == 2
        check(CONDITIONAL, trials, settings)


@needs_it
def test_a_process_suggests_and_brute_force_needs_a_finite_space() -> None:
    trials = search(build("random"), SMOOTH, smooth, 12, 0)
    check(SMOOTH, trials, build("optuna", sampler="GPSampler").suggest(SMOOTH, trials, np.random.default_rng(1), 1))
    with pytest.raises(UsageError, match="BruteForceSampler cannot search this space"):
        build("optuna", sampler="BruteForceSampler").suggest(SMOOTH, trials, np.random.default_rng(1), 1)
    space = Space.from_spec({"k": {"int": [0, 4]}, "c": ["u", "v"]})
    done = search(build("optuna", sampler="BruteForceSampler"), space, lambda p: float(p["k"]), 10, 0)
    assert len({space.canonical(trial.params) for trial in done}) == 10


@pytest.mark.slow
@needs_it
def test_it_learns() -> None:
    """All is seeded, so that it passes always or never: no false alarm by chance."""
    random = [best(search(build("random"), SMOOTH, smooth, 40, seed)) for seed in range(2)]
    parzen = [best(search(build("optuna"), SMOOTH, smooth, 40, seed)) for seed in range(2)]
    assert np.median(parzen) < 0.5 * np.median(random)


@pytest.mark.slow
@needs_it
def test_generations_are_cut_from_completed_trials_and_later_ones_are_better() -> None:
    sampler = build("optuna", sampler="NSGAIISampler", options={"population_size": 10})
    trials: list[Trial] = []
    for number in range(100):
        params = sampler.suggest(SMOOTH, trials, np.random.default_rng(number), 1)[0]
        trials.append(Trial(number, params, 1, State.COMPLETED, losses=(smooth(params),)))
        if number % 9 == 8:
            trials[-1] = replace(trials[-1], state=State.FAILED, losses=None)
    losses = [trial.losses[0] for trial in trials if trial.losses]
    assert np.median(losses[-30:]) < 0.6 * np.median(losses[:20])
