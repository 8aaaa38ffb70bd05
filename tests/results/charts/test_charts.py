"""Charts: which a report has, that they are drawn, and that they say in words what they show."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.core.conditions import Goal
from modelopt_cli.core.errors import UsageError
from modelopt_cli.results import charts
from modelopt_cli.results.charts._axes import drawn_range
from modelopt_cli.results.charts._curves import curves_of
from modelopt_cli.results.charts.chart import Chart, records
from modelopt_cli.results.charts.pictures import draw_to
from modelopt_cli.results.report import Report, Table
from tests.support.reports import HOSTILE, REPORTS, search

_OF_SEARCH = {
    "history",
    "curves",
    "timeline",
    "failures",
    "importance",
    "parallel",
    "slices",
    "effects",
    "pair_effects",
}
_OF_MODEL = {"confusion", "calibration"}
_OF_DATA = {"classes", "missing"}
EXPECTED = {
    "search": _OF_SEARCH | _OF_MODEL | _OF_DATA,
    "front": _OF_SEARCH | {"front", "hypervolume"} | _OF_MODEL | _OF_DATA,
    "population": _OF_SEARCH | {"population"} | _OF_MODEL | _OF_DATA,
    "training": {"learning_curve"} | _OF_MODEL | _OF_DATA,
    "regression": {"learning_curve", "predicted", "residuals"} | _OF_DATA,
    "pruning": {"stages", "layers", "sensitivity", "learning_curve"} | _OF_MODEL,
    "units": {"stages", "layers", "groups", "costs", "sensitivity", "learning_curve"} | _OF_MODEL,
    "distillation": {"learners", "costs", "learning_curve"},
    "comparison": {"comparison"},
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_has_the_charts_that_it_has_tables_for(name: str) -> None:
    assert set(charts.all_of(REPORTS[name]())) == EXPECTED[name]


def test_every_kind_is_drawn_of_some_report() -> None:
    assert set().union(*EXPECTED.values()) == set(charts.kinds())


def _marks(svg: str) -> int:
    """Elements of a picture that draw data: those inside a group of marks, not of axes or legends."""
    namespace = "{http://www.w3.org/2000/svg}"

    def count(node: ET.Element) -> int:
        classes = node.get("class", "")
        if any(word in classes for word in ("role-axis", "role-legend", "role-title")):
            return 0
        own = sum(
            child.tag in (f"{namespace}path", f"{namespace}line", f"{namespace}rect", f"{namespace}text")
            for child in node
            if "mark-" in classes and "role-mark" in classes
        )
        return own + sum(count(child) for child in node)

    return count(ET.fromstring(svg))


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
def test_every_chart_is_drawn_and_names_are_text(name: str) -> None:
    for kind, chart in charts.all_of(REPORTS[name]()).items():
        for theme in ("light", "dark"):
            svg = chart.render("svg", theme=theme).decode()
            assert _marks(svg) >= 1, kind
            assert "<img" not in svg, kind
        assert chart.alt.endswith("."), kind
        assert chart.title, kind
        json.dumps({name: list(columns) for name, columns in chart.data.items()}, allow_nan=False)


def test_a_chart_of_a_search_can_be_clicked_by_trial() -> None:
    drawn = charts.all_of(search(goals=2))
    for kind in ("history", "curves", "timeline", "failures", "parallel", "slices", "front", "hypervolume"):
        assert any("trial" in columns for columns in drawn[kind].data.values()), kind


def test_history_shows_the_best_so_far() -> None:
    report = search()
    chart = charts.draw(report, "history")
    assert chart is not None
    best = None
    expected = []
    for row in report.records("trials"):
        if row["state"] == "completed":
            best = max(best or 0.0, row["validation.accuracy"])
            expected.append((row["trial"], pytest.approx(best, rel=1e-5)))
    line = [(row["trial"], row["best"]) for row in records(chart.data["history_0"])]
    assert line[:-1] == expected
    assert "stopped" in chart.alt
    assert "failed" in chart.alt


def test_the_stages_of_a_compression_are_lines_of_their_own_one_after_another() -> None:
    columns = ["stage", "step", "train.loss", "validation.loss", "model.parameters"]
    rows: list[list[Any]] = [["train", 1, 0.5, 0.6, None], ["train", 2, 0.4, None, None], ["prune", 1, None, 0.7, 60.0]]
    table = Table(columns=columns, rows=[*rows, ["prune", 2, 0.3, 0.5, 60.0]])
    given = Report(kind="compression", workflow="compress", name="x", tables={"curve": table})
    chart = charts.draw(given, "learning_curve")
    assert chart is not None
    assert [panel.title for panel in chart.panels] == ["loss"], "what models cost is in other tables"
    drawn = records(chart.data["learning_curve_0"])
    train = [(row["step"], row["stage"], row["of_stage"], row["value"]) for row in drawn if row["line"] == "train"]
    assert train == [(1, "train", 1, 0.5), (2, "train", 2, 0.4), (4, "prune", 2, 0.3)]
    assert chart.alt == ("After 4 steps of the stages train, prune: loss ends at 0.3 (train), 0.5 (validation).")
    rules, names, lines = chart.panels[0].spec["layer"]
    assert rules["data"]["values"] == [{"begins": 2.5, "name": "prune"}]
    assert [row["name"] for row in names["data"]["values"]] == ["train", "prune"]
    assert lines["encoding"]["detail"]["field"] == "stage"
    assert _marks(chart.render("svg").decode()) >= 5


def test_confusion_names_what_is_confused_most() -> None:
    rows = [["test", "a", "a", 8], ["test", "a", "b", 2], ["test", "b", "b", 9], ["test", "b", "a", 1]]
    table = Table(columns=["split", "true", "predicted", "count"], rows=[list(row) for row in rows])
    chart = charts.draw(Report(kind="training", workflow="train", name="x", tables={"confusion": table}), "confusion")
    assert chart is not None
    assert chart.alt == "17 of 20 samples right (0.85). Most often a is taken for b (2 times)."
    shares = {(row["true"], row["predicted"]): row["share"] for row in records(chart.data["confusion"])}
    assert shares == {("a", "a"): 0.8, ("a", "b"): 0.2, ("b", "b"): 0.9, ("b", "a"): 0.1}


def test_calibration_is_guo_and_others_error() -> None:
    rows = [["test", 0.4, 0.5, 10, 0.45, 0.25], ["test", 0.9, 1.0, 30, 0.95, 0.9]]
    columns = ["split", "low", "high", "count", "confidence", "accuracy"]
    table = Table(columns=columns, rows=[list(row) for row in rows])
    chart = charts.draw(
        Report(kind="training", workflow="train", name="x", tables={"calibration": table}), "calibration"
    )
    assert chart is not None
    assert chart.alt.startswith(f"Expected calibration error {(10 * 0.2 + 30 * 0.05) / 40:.4g} ")


def test_far_values_do_not_hide_the_near_ones() -> None:
    values = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, -1e6]
    low, high, beyond = drawn_range(values, Goal("x", True))
    assert beyond == 1
    assert low > 0.7
    assert high > 0.95
    assert drawn_range(values, Goal("x", False))[2] == 0  # the best value of this one is far away, and is shown


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    report = search(trials=20, steps=50)
    thin, every = curves_of(report, most=200)
    assert every > 1
    assert len(thin["trial"]) <= 260
    whole, one = curves_of(report)
    assert one == 1

    def ends(data: dict[str, list[float]]) -> dict[float, float]:
        return dict(zip(data["trial"], data["step"], strict=True))

    assert ends(thin) == ends(whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "magic"), [("x.png", b"\x89PNG"), ("x.svg", b"<svg"), ("x.PDF", b"%PDF")])
def test_pictures_have_the_format_of_their_name(name: str, magic: bytes, tmp_path: Path) -> None:
    chart = charts.draw(search(), "history")
    assert chart is not None
    draw_to(chart, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_another_format_is_refused(tmp_path: Path) -> None:
    chart = charts.draw(search(), "history")
    assert chart is not None
    with pytest.raises(UsageError, match="svg, png or pdf"):
        draw_to(chart, tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_a_report_without_tables_has_no_chart() -> None:
    assert charts.all_of(Report(kind="training", workflow="train", name="x")) == {}


@pytest.mark.parametrize("change", [lambda row: row.update(state="failed"), lambda row: row.update(state="running")])
def test_a_search_without_a_value_has_no_empty_chart(change: Callable[[dict[str, object]], None]) -> None:
    report = search(6)
    rows = report.records("trials")
    for row in rows:
        change(row)
        row["validation.accuracy"] = None
    bare = Report(
        kind="search",
        workflow="tune",
        name="x",
        tables={"trials": Table.from_records(rows)},
        details={"objective": ["maximize validation.accuracy"]},
    )
    assert "history" not in charts.all_of(bare)


def test_hostile_names_do_not_reach_a_notebook_as_markup() -> None:
    chart = Chart("x", HOSTILE, HOSTILE, charts.draw(search(), "history").panels)  # type: ignore[union-attr]
    html = chart._repr_html_()  # what a notebook asks for
    assert "<img" not in html
