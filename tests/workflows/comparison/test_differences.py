"""Whether a difference is more than chance: against scipy, published figures, and runs where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from modelopt_cli.workflows.comparison.differences import judged, newcombe, welch
from modelopt_cli.workflows.comparison.runs import ComparedRun, opened
from tests.support.compared_runs import EXPERIMENT, run_folder

X = "test.accuracy"


def two(root: Path, first: dict[str, object], other: dict[str, object]) -> tuple[ComparedRun, ComparedRun]:
    for name, given in (("a", first), ("b", other)):
        run_folder(root, name, **given)  # type: ignore[arg-type]
    return opened("a", "A", root), opened("b", "B", root)


@pytest.mark.parametrize("sizes", [(2, 2), (3, 5), (10, 3)])
def test_welch_is_that_of_scipy(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.normal(size=n).tolist() for n in sizes)
    expected = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    assert welch(before, after) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("of", "interval"),
    [  # Newcombe 1998, table II, method 10
        ((48, 80, 56, 70), (0.0524, 0.3339)),
        ((3, 10, 9, 10), (0.1705, 0.8090)),
        ((2, 7, 6, 7), (0.0582, 0.8062)),
        ((0, 29, 5, 56), (-0.0381, 0.1926)),
        ((0, 20, 0, 10), (-0.1611, 0.2775)),
        ((0, 20, 10, 10), (0.6791, 1.0000)),
        ((0, 10, 10, 10), (0.6075, 1.0000)),
    ],
)
def test_newcombe_is_as_published(of: tuple[int, int, int, int], interval: tuple[float, float]) -> None:
    x1, n1, x2, n2 = of
    assert newcombe(x1 / n1, n1, x2 / n2, n2) == pytest.approx(interval, abs=6e-5)


def test_several_seeds_are_judged_by_their_deviation(tmp_path: Path) -> None:
    first, other = two(
        tmp_path, {"metrics": {}, "seeds": {X: [0.90, 0.91, 0.92]}}, {"metrics": {}, "seeds": {X: [0.95, 0.96, 0.97]}}
    )
    each = judged(X, first, other, higher=True)
    assert (each.verdict, each.how) == ("better", "Welch's t-test, 3 and 3 seeds")
    assert each.difference == pytest.approx(0.05)
    assert each.low is not None
    assert each.high is not None
    assert each.low < 0.05 < each.high
    assert judged(X, other, first, higher=True).verdict == "worse"
    assert judged(X, first, other, higher=None).verdict == "differs"


def test_a_difference_within_the_deviation_is_unclear(tmp_path: Path) -> None:
    first, other = two(
        tmp_path, {"metrics": {}, "seeds": {X: [0.90, 0.95, 0.92]}}, {"metrics": {}, "seeds": {X: [0.91, 0.96, 0.94]}}
    )
    assert judged(X, first, other, higher=True).verdict == "unclear"


def test_one_run_is_judged_by_the_deviation_of_the_other_one(tmp_path: Path) -> None:
    """As the prediction interval of one more value of a normal sample."""
    values = [0.90, 0.91, 0.92]
    first, other = two(tmp_path, {"metrics": {}, "seeds": {X: values}}, {"metrics": {X: 0.97}})
    each = judged(X, first, other, higher=True)
    reach = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) * np.sqrt(1 + 1 / 3)
    assert (each.low, each.high) == pytest.approx((0.06 - reach, 0.06 + reach))
    assert each.how == "one run against the deviation of 3 seeds"


def test_seeds_that_agree_to_the_last_digit_tell_nothing_of_chance(tmp_path: Path) -> None:
    """Three seeds that all get 29 of 30 test samples right are no proof that a fourth would."""
    first, other = two(
        tmp_path, {"metrics": {}, "seeds": {X: [0.9, 0.9, 0.9]}}, {"metrics": {}, "seeds": {X: [1.0, 1.0, 1.0]}}
    )
    each = judged(X, first, other, higher=True)
    assert (each.verdict, each.how) == ("not known", "the same for every seed")


@pytest.mark.parametrize(
    ("accuracy", "verdict"), [(0.99, "better"), (0.92, "unclear"), (0.8, "worse"), (0.9, "unclear")]
)
def test_one_accuracy_each_is_judged_by_the_samples_of_the_split(tmp_path: Path, accuracy: float, verdict: str) -> None:
    sizes = {"test": 360, "validation": 100}
    first, other = two(tmp_path, {"metrics": {X: 0.9}, "samples": sizes}, {"metrics": {X: accuracy}, "samples": sizes})
    each = judged(X, first, other, higher=True)
    assert (each.verdict, each.how) == (verdict, "Newcombe's interval, 360 samples, one seed each")


def test_an_accuracy_of_weighted_samples_or_of_folds_is_no_share_of_samples(tmp_path: Path) -> None:
    sizes = {"test": 360, "validation": 360}
    weighted = {**EXPERIMENT, "data": {**EXPERIMENT["data"], "weights": "w"}}
    name = "validation.accuracy"
    metrics = {X: 0.9, name: 0.9, f"{name}_std": 0.1}
    first, other = two(
        tmp_path,
        {"metrics": metrics, "samples": sizes, "experiment": weighted},
        {"metrics": {X: 0.5, name: 0.5}, "samples": sizes},
    )
    assert judged(X, first, other, higher=True).how == "weighted samples; one seed each; set seeds: 3"
    assert judged(X, other, first, higher=True).verdict == "not known"
    run_folder(tmp_path, "c", metrics, samples=sizes)
    assert judged(name, other, opened("c", "C", tmp_path), higher=True).how.startswith("a mean over folds")


@pytest.mark.parametrize(
    ("metric", "how"),
    [
        (X, "one seed each; set seeds: 3"),
        ("test.f1", "one seed each; set seeds: 3"),
        ("seconds", "a time, measured once"),
    ],
)
def test_what_is_not_known_is_told(tmp_path: Path, metric: str, how: str) -> None:
    first, other = two(tmp_path, {"metrics": {metric: 0.9}, "seconds": 1.0}, {"metrics": {metric: 0.8}, "seconds": 2.0})
    each = judged(metric, first, other, higher=True)
    assert (each.verdict, each.how, each.low) == ("not known", how, None)


def test_what_is_counted_is_no_chance(tmp_path: Path) -> None:
    name = "model.parameters"
    first, other = two(tmp_path, {"metrics": {name: 100.0}}, {"metrics": {name: 99.0}})
    assert judged(name, first, other, higher=False).verdict == "better"
    assert judged(name, first, first, higher=False).verdict == "same"


def test_a_metric_that_one_lacks(tmp_path: Path) -> None:
    first, other = two(tmp_path, {"metrics": {X: 0.9}}, {"metrics": {X: float("nan")}})
    each = judged(X, first, other, higher=True)
    assert (each.verdict, each.how, each.difference) == ("missing", "B: no such metric", None)
