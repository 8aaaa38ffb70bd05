"""`seeds: N`: means and deviations against numpy, finished seeds read, ratios of means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelopt_cli.results.report import Report, Table
from modelopt_cli.results.run_directory import RunDirectory
from modelopt_cli.workflows import distill
from modelopt_cli.workflows.shared.context import Context, EpochEnded, Message, StopFlag
from modelopt_cli.workflows.shared.over_seeds import averaged, over_seeds
from tests.support.distill_cases import (
    BASE,
    TEACHER,
    assert_same,
    differ,
    distilled,
    experiment,
    learners,
    rows,
    state,
    state_of,
    timed,
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.slow
def test_means_and_deviations_are_numpys(tmp_path: Path) -> None:
    alone = [distilled(experiment(seed=seed)) for seed in (3, 4, 5)]
    report = distilled(experiment(seed=3, seeds=3), tmp_path / "run")
    for name, value in report.metrics.items():
        if not timed(name) and not name.endswith("gap_closed"):
            assert value == pytest.approx(np.mean([one.metrics[name] for one in alone])), name
    table = report.tables["seeds"]
    assert [row[0] for row in table.rows] == [3, 4, 5, "mean", "deviation"]
    column_of = dict(zip(table.columns, zip(*table.rows, strict=True), strict=True))
    for name in ("test.accuracy", "test.loss", "validation.loss"):
        values = [one.metrics[name] for one in alone]
        assert list(column_of[name][:3]) == values
        assert column_of[name][3:] == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    many = learners(report)
    for name in ("teacher", "student alone", "student"):
        values = [learners(one)[name]["test.loss"] for one in alone]
        assert many[name]["test.loss"] == pytest.approx(np.mean(values))
        assert many[name]["test.loss_std"] == pytest.approx(np.std(values, ddof=1))
    assert report.details["seeds"] == [3, 4, 5]
    assert_same(state_of(report), state_of(alone[0]))
    assert differ(state_of(alone[0]), state_of(alone[1]))
    assert_same(state(tmp_path / "run/seed-4/model.pt"), state_of(alone[1]))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"seed-3", "seed-4", "seed-5", "seeds.csv", "learners.csv", "curve.csv", "report.json"} <= names
    assert json.loads((tmp_path / "run/report.json").read_text())["metrics"] == report.metrics
    assert Path(report.artefacts["model"]) == tmp_path / "run/seed-3/model.pt"


def test_the_gap_is_that_of_the_means() -> None:
    report = distilled(experiment({"teacher": {**TEACHER, "training": {**TEACHER["training"], "epochs": 9}}}, seeds=2))
    by_learner = learners(report)
    for split in ("validation", "test"):
        names = ("teacher", "student alone", "student")
        teacher, alone, student = (by_learner[name][f"{split}.accuracy"] for name in names)
        if teacher > alone:
            assert report.metrics[f"{split}.gap_closed"] == pytest.approx((student - alone) / (teacher - alone))


def test_splits_are_the_same_for_all_seeds_and_a_teacher_with_a_seed_is_one_teacher(tmp_path: Path) -> None:
    data = {"type": "iris", "splits": {"validation": 0.2, "test": 0.2}}
    section = {"teacher": {**TEACHER, "seed": 9}}
    report = distilled(experiment(section, data=data, seed=3, seeds=2), tmp_path / "run")
    row = learners(report)["teacher"]
    assert "test.loss_std" in row
    assert row["test.loss_std"] == 0.0
    assert_same(state(tmp_path / "run/seed-3/teacher.pt"), state(tmp_path / "run/seed-4/teacher.pt"))
    assert_same(state_of(distilled(experiment(section, data=data, seed=3))), state_of(report))


def test_gates_look_at_the_means(tmp_path: Path) -> None:
    report = distilled(experiment(seeds=2, gates=["test.accuracy >= 1.1"]), tmp_path / "run")
    [gate] = report.gates
    assert not gate.met
    assert gate.value == report.metrics["test.accuracy"]
    assert Report.model_validate_json((tmp_path / "run/seed-0/report.json").read_text()).gates == []


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 8, 9, 12])
def test_a_resumed_run_reads_finished_seeds(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight steps a seed; after the eighth the first seed's run was asked to stop before it was judged."""
    chosen = experiment(seeds=2)
    whole = distilled(chosen)
    stop, steps = StopFlag(), [0]

    def count(event: Any) -> None:
        steps[0] += isinstance(event, EpochEnded)
        if steps[0] == step:
            stop.set(2)

    first = distilled(chosen, tmp_path / "run", emit=count, stop=stop)
    assert first.status == "interrupted"
    assert first.metrics == {}
    ran: list[int] = []
    once = distill.Distill.once

    def watched(self: distill.Distill, one: Any, context: Context) -> Report:
        ran.append(one.seed)
        return once(self, one, context)

    monkeypatch.setattr(distill.Distill, "once", watched)
    report = distilled(chosen, tmp_path / "run", resume=True)
    assert ran == ([0, 1] if step <= 8 else [1])
    assert report.status == "completed"
    for name, value in whole.metrics.items():
        assert timed(name) or report.metrics[name] == value, name
    for seed in (0, 1):
        assert (tmp_path / f"run/seed-{seed}/model.pt").exists()
    assert_same(state(tmp_path / "run/seed-0/model.pt"), state_of(whole))


def report_of(seed: int, **metrics: float) -> Report:
    learned = Table(columns=["learner", "test.a"], rows=[["x", metrics["a"]]])
    return Report(
        kind="training", workflow="w", name="n", seed=seed, metrics=metrics, tables={"t": learned}, warnings=["same"]
    )


def test_any_run_can_be_repeated(tmp_path: Path) -> None:
    """Metrics that some seed lacks are left out; warnings are told once; messages say which seed it is."""
    announced: list[str] = []

    def run(one: Any, context: Context) -> Report:
        assert context.gates == ()
        assert one.seeds == 1
        more = {"b": 1.0} if one.seed == 0 else {}
        return report_of(one.seed, a=float(one.seed) ** 2, **more)

    def tell(event: Any) -> None:
        announced.extend([event.text] if isinstance(event, Message) else [])

    chosen = experiment(seeds=3)
    with RunDirectory.create_at(tmp_path / "run") as directory:
        report = over_seeds(run, chosen, Context(directory=directory, emit=tell), lambda tables: {"c": len(tables)})
    assert report.metrics == {"a": pytest.approx(5 / 3), "c": 2}
    assert report.warnings == ["same"]
    assert announced == ["seed 0 (1 of 3)", "seed 1 (2 of 3)", "seed 2 (3 of 3)"]
    assert rows(report.tables["t"]) == [
        {"learner": "x", "test.a": pytest.approx(5 / 3), "test.a_std": pytest.approx(np.std([0, 1, 4], ddof=1))}
    ]


def table(*given: list[Any]) -> Table:
    return Table(columns=["name", "value", "flag"], rows=list(given))


def test_tables_whose_rows_agree_become_one() -> None:
    mean_table = averaged([table(["a", 1.0, True], ["b", 2, False]), table(["a", 3.0, True], ["b", 2, False])])
    assert mean_table is not None
    assert mean_table.columns == ["name", "value", "value_std", "flag"]
    assert mean_table.rows == [["a", 2.0, pytest.approx(2**0.5), True], ["b", 2.0, 0.0, False]]
    same = averaged([table(["a", 1, True])] * 2)
    assert same is not None
    assert same.rows == [["a", 1, True]]
    assert same.columns == ["name", "value", "flag"], "nothing varies"


@pytest.mark.parametrize(
    "other",
    [
        table(["b", 1.0, True]),
        table(["a", 1.0, False]),
        table(["a", 1.0, True], ["a", 1.0, True]),
        Table(columns=["name", "other", "flag"], rows=[["a", 1.0, True]]),
    ],
)
def test_tables_whose_rows_differ_do_not(other: Table) -> None:
    assert averaged([table(["a", 1.0, True]), other]) is None


def test_what_some_seeds_lack_is_the_mean_of_the_others() -> None:
    mean_table = averaged([table(["a", None, True]), table(["a", 3.0, True]), table(["a", 5.0, True])])
    assert mean_table is not None
    assert mean_table.rows == [["a", 4.0, pytest.approx(2**0.5), True]]
    mean_table = averaged([table(["a", None, True]), table(["a", 3.0, True])])
    assert mean_table is not None
    assert mean_table.rows == [["a", 3.0, None, True]]


def test_one_seed_is_just_the_run() -> None:
    report = distilled(experiment(seeds=1))
    assert "seeds" not in report.tables
    assert BASE["training"]["epochs"] == 3


@pytest.mark.slow
def test_a_teacher_with_a_seed_of_its_own_is_trained_once_for_all_seeds(tmp_path: Path) -> None:
    shared = {"teacher": {**TEACHER, "seed": 5}}
    report = distilled(experiment(shared, seeds=3), tmp_path / "run")
    trained = [
        {row["learner"] for row in json.loads((tmp_path / f"run/seed-{seed}/curve.json").read_text())}
        for seed in range(3)
    ]
    assert trained == [{"teacher", "student alone", "student"}] + 2 * [{"student alone", "student"}]
    assert not (tmp_path / "run/.stages").exists()
    assert learners(report)["teacher"]["test.loss_std"] == 0.0
    for seed in range(3):
        alone = distilled(experiment(shared, seed=seed))
        assert_same(state(tmp_path / f"run/seed-{seed}/model.pt"), state_of(alone))
    different = distilled(experiment({"teacher": TEACHER}, seeds=3))
    assert learners(different)["teacher"]["test.loss_std"] > 0


def test_splits_that_are_left_to_their_defaults_are_the_same_in_every_seed_and_in_the_models_file(
    tmp_path: Path,
) -> None:
    from modelopt_cli import evaluate, load, train

    document = {**BASE, "data": {"type": "iris"}}
    alone = train(load(document), out=tmp_path / "alone")
    report = train(load({**document, "seeds": 2}), out=tmp_path / "run")
    first = json.loads((tmp_path / "run/seed-0/report.json").read_text())["metrics"]
    assert first["test.accuracy"] == alone.metrics["test.accuracy"], "0.2 of the data, though no file says so"
    assert "test.accuracy" in report.metrics
    for split in ("validation", "test"):
        metrics = evaluate(tmp_path / "alone/model.pt", split=split).metrics
        assert metrics[f"{split}.accuracy"] == alone.metrics[f"{split}.accuracy"]
        assert metrics[f"{split}.f1"] == alone.metrics[f"{split}.f1"]
