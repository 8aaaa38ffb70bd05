"""Noisy objectives: which setting is best, and trying settings again."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from modelopt_cli.tuning.analysis.replication import Posterior, knowledge_gradient, posterior
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.trial import Params, State, Trial

SPACE = {"x": {"float": [0, 1]}, "y": {"float": [0, 1]}}


def test_the_gain_of_one_more_result_is_frazier_powell_and_dayaniks() -> None:
    """Two independent settings: s phi(d / s) - d Phi(-d / s), with s the deviation of the updated mean, d the gap."""
    mean, variance, noise = np.array([0.0, 0.4]), 0.5, 0.3
    spread = variance / (variance + noise) ** 0.5
    exact = spread * norm.pdf(0.4 / spread) - 0.4 * norm.cdf(-0.4 / spread)
    for which in (0, 1):  # to learn about either one decides as much
        covariance = np.where(np.arange(2) == which, variance, 0.0)
        assert knowledge_gradient(mean, covariance, variance + noise) == pytest.approx(exact, rel=1e-12)
    assert knowledge_gradient(mean, np.zeros(2), 0.3) == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(6))
def test_the_gain_among_many_is_the_mean_over_what_may_come_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, covariance = rng.standard_normal(9), rng.standard_normal(9)
    z = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    lowest = (mean + z[:, None] * covariance / 0.7**0.5).min(axis=1).mean()
    assert knowledge_gradient(mean, covariance, 0.7) == pytest.approx(mean.min() - lowest, rel=1e-4)
    assert knowledge_gradient(mean, np.full(9, 0.4), 0.7) == 0.0  # all move alike: nothing is decided


def test_a_small_gain_is_not_none() -> None:
    """Contenders ten deviations apart: a result about either may still decide, one about a hopeless setting hardly."""
    mean = np.array([0.0, 1.0, 3.0])
    near, far = (
        knowledge_gradient(mean, np.array(covariance), 1.0) for covariance in ([0.1, 0.0, 0.0], [0.0, 0.0, 0.1])
    )
    assert near == pytest.approx(0.1 * (norm.pdf(10) - 10 * norm.sf(10)), rel=1e-6)
    assert near > far > 0.0


def noisy(params: Params, rng: np.random.Generator, sigma: float) -> float:
    """Lowest at (0.3, 0.6)."""
    return float((params["x"] - 0.3) ** 2 + (params["y"] - 0.6) ** 2 + sigma * rng.standard_normal())


def searched(sigma: float, sampler: str = "random", trials: int = 36) -> Study:
    study, rng = Study(SPACE, sampler, seed=0, repeats=True), np.random.default_rng(100)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, noisy(trial.params, rng, sigma))
    return study


def best(study: Study) -> Trial:
    assert study.best is not None
    return study.best


def loss_of(trial: Trial) -> float:
    assert trial.loss is not None
    return trial.loss


def settings(study: Study) -> set[Hashable]:
    return {study.space.canonical(trial.params) for trial in study.trials}


@pytest.mark.slow
def test_without_noise_little_is_tried_again() -> None:
    study = searched(0.0, trials=40)
    assert len(settings(study)) > 30  # a few, from which it learns that there is no noise
    assert best(study).loss == min(loss_of(trial) for trial in study.trials)


@pytest.mark.slow
def test_with_noise_contenders_are_tried_again_and_the_best_is_better() -> None:
    """Twelve settings, 0.1 apart, noise 0.2: once through them, and 28 more trials where the search wants them.

    All is seeded, so that it passes always or never: no false alarm by chance.
    """
    once, repeated, contenders = [], [], []
    for seed in range(5):
        study, rng = Study({"x": list(range(12))}, "random", seed=seed, repeats=True), np.random.default_rng(seed)
        for count in range(40):
            trial = study.ask()
            study.tell(trial, 0.1 * trial.params["x"] + 0.2 * rng.standard_normal())
            if count == 11:
                once.append(min(study.trials, key=loss_of).params["x"])
        repeated.append(best(study).params["x"])
        contenders.append(sum(trial.params["x"] < 4 for trial in study.trials))
    assert sum(repeated) < sum(once)
    assert np.mean(contenders) > 20  # a third of the settings, more than half of the trials


def test_the_luckiest_single_result_is_not_best() -> None:
    study = Study({"x": [0, 1, 2, 3]}, "random", repeats=True)
    for x, losses in enumerate([(0.30, 0.34, 0.26, 0.32, 0.28), (0.22, 0.9, 1.1, 0.95), (1.0, 0.9, 1.1), (1.2, 1.1)]):
        for loss in losses:
            study.tell(study.ask({"x": x}), loss)
    assert best(study).params == {"x": 0}
    assert best(study).loss == 0.26  # of its trials the one that came out best
    assert isinstance(study.posterior, Posterior)
    assert sorted(len(group) for group in study.posterior.settings) == [2, 3, 4, 5]


@pytest.mark.slow
def test_what_is_under_way_is_not_tried_again() -> None:
    study = searched(0.15, trials=30)
    known = study.posterior
    assert known is not None
    tried = [group[0].params for group in known.settings]
    far = {"x": 1.0, "y": 0.0}
    first = known.again(far, [])
    assert first in tried
    assert known.again(far, tried) is None
    assert known.again(far, [first]) != first


@pytest.mark.parametrize("loss", [{"a": 1.0, "b": 2.0}, None])
def test_there_is_no_posterior_of_several_objectives_or_equal_results(loss: dict[str, float] | None) -> None:
    study = Study(SPACE, "random", ["minimize a", "minimize b"] if loss else "minimize loss", repeats=True)
    for _ in range(6):
        trial = study.ask()
        study.tell(trial, loss or 1.0)
    assert posterior(study.space, study.trials) is None
    assert best(study).number == 0


@pytest.mark.slow
def test_a_killed_search_with_repeats_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = searched(0.15, "bayesian", trials=16)
    path, rng = tmp_path / "study.sqlite", np.random.default_rng(100)
    for _ in range(16):  # opened anew for every trial
        with Study(SPACE, "bayesian", path=path, repeats=True) as study:
            trial = study.ask()
            study.tell(trial, noisy(trial.params, rng, 0.15))
            params = [trial.params for trial in study.trials]
    assert params == [trial.params for trial in whole.trials]


def test_a_trial_that_was_stopped_and_counts_may_be_best() -> None:
    """Patience ends good trials too."""
    study, rng = Study(SPACE, "random", repeats=True), np.random.default_rng(0)
    for _ in range(24):
        trial = study.ask()
        loss = noisy(trial.params, rng, 0.001)
        study.tell(trial, loss, stopped="nothing gets better any more" if loss < 0.1 else "")
    assert sum(trial.state is State.COMPLETED for trial in study.trials) > 4
    assert best(study).state is State.STOPPED
    assert loss_of(best(study)) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["bayesian", "random", "tpe"])
def test_when_every_setting_was_tried_the_contenders_are_tried_again(sampler: str) -> None:
    """A sampler has nothing new to offer then, and chance would spend as much on what is hopeless."""
    study, rng = Study({"x": [0, 1, 2, 3, 4, 5]}, sampler, repeats=True), np.random.default_rng(0)
    for _ in range(40):
        trial = study.ask()
        study.tell(trial, [0.3, 0.35, 0.9, 1.0, 1.2, 1.4][trial.params["x"]] + 0.1 * rng.standard_normal())
    times = np.bincount([trial.params["x"] for trial in study.trials], minlength=6)
    assert times.min() > 0
    assert times[:2].sum() > 2 * times[2:].sum()
