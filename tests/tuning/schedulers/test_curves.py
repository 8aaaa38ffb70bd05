"""The model of curves behind freeze_thaw: it is what one computed at once is, however it came about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelopt_cli.core.conditions import Condition
from modelopt_cli.tuning.samplers._common.encoding import Encoding, Points
from modelopt_cli.tuning.samplers._gp.growing import GrowingProcess
from modelopt_cli.tuning.samplers._gp.process import Process
from modelopt_cli.tuning.schedulers import _prospects
from modelopt_cli.tuning.schedulers._curve_table import CurveTable
from modelopt_cli.tuning.schedulers._curves import Curves, losses_at_stages
from modelopt_cli.tuning.schedulers._freeze_thaw import stages
from modelopt_cli.tuning.schedulers._prospects import Prospects
from modelopt_cli.tuning.schedulers.freeze_thaw import FreezeThaw
from modelopt_cli.tuning.search.simulator import Curve, simulate
from modelopt_cli.tuning.space.space import Space
from modelopt_cli.tuning.study.study import Study
from modelopt_cli.tuning.trials.indexed import derived

TOTAL = 27
SPACE: dict[str, Any] = {
    "x": {"float": [0, 1]},
    "y": {"int": [1, 50], "log": True},
    "z": {"choice": [{"type": "a"}, {"type": "b", "w": {"float": [0, 1]}}, "c"]},
}
STAGES = tuple(stages(TOTAL, 1.5))


def curve(params: Any) -> Curve:
    x, y = params["x"], params["y"] / 50
    low = (x - 0.7) ** 2 + 0.3 * (y - 0.2) ** 2 + 0.1 * (params["z"] == "c")
    return [(1.0, {"loss": low + (0.3 + x) / step, "size": y + 0.1 * x}) for step in range(1, TOTAL + 1)]


def searched(trials: int, objective: Any = "minimize loss", constraints: Any = (), seed: int = 0) -> Study:
    study = Study(SPACE, "random", objective, seed=seed, constraints=constraints)
    simulate(study, curve, trials=trials, scheduler=FreezeThaw())
    return study


def points_of(codes: np.ndarray, encoding: Encoding, time: np.ndarray) -> Points:
    settings = encoding.points(codes)
    return Points(np.concatenate([settings.numbers, time[:, None]], axis=1), settings.categories)


def random_points(count: int, seed: int) -> Points:
    rng, encoding = np.random.default_rng(seed), Encoding(Space.from_spec(SPACE))
    return points_of(encoding.snap(rng.random((count, encoding.space.dim))), encoding, rng.random(count))


def test_a_process_that_grew_is_the_one_built_at_once() -> None:
    points, asked = random_points(60, 0), random_points(40, 1)
    targets = np.random.default_rng(2).standard_normal(60)
    hyper = Process(points, targets).hyper
    dense = Process(points, targets, hyper)
    head, tail = points.take(np.arange(25)), points.take(np.arange(25, 60))
    at_once = GrowingProcess(head, hyper).grown(tail)
    one_by_one = GrowingProcess(head, hyper)
    for row in range(len(tail)):
        one_by_one = one_by_one.grown(tail.take(np.array([row])))
    for process in (at_once.told(targets), one_by_one.told(targets)):
        sight = process.sight(asked)
        mean, deviation = process.posterior(process.solved(sight))
        np.testing.assert_allclose(mean, dense.predict(asked)[0], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(deviation, dense.predict(asked)[1], rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(process.means(sight), mean, rtol=1e-12)
        later = process.moved_along(sight, np.linspace(0, 1, 40))
        numbers = np.concatenate([asked.numbers[:, :-1], np.linspace(0, 1, 40)[:, None]], axis=1)
        moved = Points(numbers, asked.categories)
        ours = process.paired_covariance(process.solved(sight), process.solved(later))
        theirs = dense.paired_covariance(dense.at(asked), dense.at(moved))
        for own, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-6, atol=1e-9)
    for name in ("_inverse", "_warped"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(one_by_one, name))


@pytest.mark.slow
def test_a_model_that_grew_with_the_search_is_the_one_made_of_its_history() -> None:
    """To the last bit, so that a replay decides near ties as the search did."""
    study = searched(30)
    kept = derived(study.history, CurveTable, study.space, STAGES, ())
    assert len(kept) > 200, "also where some points are left out"
    assert kept.memory, "the search has used it"
    anew = derived(study.trials, CurveTable, study.space, STAGES, ())
    assert not anew.memory
    for ours, theirs in zip(vars(kept.arrays).values(), vars(anew.arrays).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    models = [Curves(table, ("objective", 0), losses_at_stages(table.arrays.losses[:, 0])) for table in (kept, anew)]
    codes = np.random.default_rng(0).random((50, study.space.dim))
    codes = kept.encoding.snap(codes)
    ends = [model.solved(model.at_end(codes)) for model in models]
    np.testing.assert_array_equal(ends[0].mean, ends[1].mean)
    np.testing.assert_array_equal(ends[0].deviation, ends[1].deviation)
    moved = [model.moved(end, np.arange(50), np.full(50, 2)) for model, end in zip(models, ends, strict=True)]
    np.testing.assert_array_equal(moved[0], moved[1])
    for model in models:
        model.fantasize(codes[0], TOTAL)
    means = [model.means(model.at_end(codes)) for model in models]
    np.testing.assert_array_equal(means[0], means[1])


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["minimize loss", ["minimize loss", "minimize size"]], ids=["one", "two"])
def test_candidates_come_as_if_all_had_been_looked_at(objective: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study = searched(14, objective)
    rng = np.random.default_rng(3)
    prospects = Prospects(derived(study.trials, CurveTable, study.space, STAGES, ()), rng)
    codes = Encoding(study.space).snap(rng.random((300, study.space.dim)))
    at = np.where(np.arange(300) < 100, 1, 0)
    horizons = [at + 1, np.minimum(3 * np.maximum(at, 1), TOTAL), np.full(300, TOTAL)]

    def order() -> list[int]:
        candidates = prospects.of(codes, 100)
        return list(candidates.by_merit(horizons, lambda index, until: until - at[index]))

    monkeypatch.setattr(_prospects, "_BATCH", 20)
    few = order()
    monkeypatch.setattr(_prospects, "_BATCH", 1000)
    assert order() == few
    assert sorted(few) == list(range(300))


def test_constraints_and_missing_metrics_are_rows_of_the_table() -> None:
    constraints = (Condition.parse("size <= 0.5"), Condition.parse("absent >= 1"))
    study = searched(3)
    table = derived(study.trials, CurveTable, study.space, STAGES, constraints)
    rows = table.arrays
    sizes = np.array([[point.metrics["size"] for point in trial.curve[:1]] for trial in study.trials])[:, 0]
    np.testing.assert_allclose(rows.margins[:, 0], 0.5 - sizes[rows.owners])
    assert np.isnan(rows.margins[:, 1]).all()
    assert set(rows.steps.tolist()) <= set(STAGES)
    first = [trial.curve[0].losses for trial in study.trials]
    of_first = rows.losses[rows.steps == 1]
    assert sorted(map(tuple, of_first.tolist())) == sorted(losses for losses in first if losses is not None)
