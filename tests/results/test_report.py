"""A report survives its JSON, tables their records; a report from before there were kinds gets the one it is of."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modelopt_cli.core import references
from modelopt_cli.results.report import Cell, GateResult, Kind, Report, Table, kind_of

CELLS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
COLUMNS = st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(COLUMNS)
    rows = draw(st.lists(st.lists(CELLS, min_size=len(columns), max_size=len(columns)), max_size=5))
    return Table(columns=columns, rows=rows)


@settings(max_examples=40)
@given(tables())
def test_a_table_is_made_of_its_records_again(table: Table) -> None:
    again = Table.from_records(table.records())
    assert again == table if table.rows else again == Table(columns=[], rows=[])


def test_records_that_lack_a_column_have_an_empty_cell() -> None:
    table = Table.from_records([{"a": 1}, {"b": 2.5, "a": None}])
    assert (table.columns, table.rows) == (["a", "b"], [[1, None], [None, 2.5]])


def test_a_row_that_lacks_a_cell_is_no_record() -> None:
    with pytest.raises(ValueError, match="zip"):
        Table(columns=["a", "b"], rows=[[1]]).records()


@settings(max_examples=40)
@given(tables(), st.dictionaries(st.text(), st.floats(allow_nan=False)))
def test_a_report_survives_its_json(table: Table, metrics: dict[str, float]) -> None:
    report = Report(
        kind="training",
        workflow="train",
        name="a",
        metrics=metrics,
        tables={"curve": table},
        gates=[GateResult(condition="loss < 1", met=False, value=None, margin=None)],
    )
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_infinity_survives_its_json() -> None:
    report = Report(kind="training", workflow="train", name="a", metrics={"loss": math.inf})
    assert Report.model_validate_json(report.model_dump_json()).metrics == {"loss": math.inf}


def test_json_for_others_names_the_kind_and_hides_what_came_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(references, "_known", {"TOKEN": "hunter2hunter2"})  # what `remember` fills, for this test alone
    document = json.loads(
        Report(kind="training", workflow="train", name="a", warnings=["said hunter2hunter2"]).to_json()
    )
    assert document["kind"] == "training"
    assert document["warnings"] == ["said ${TOKEN}"]


def test_the_model_goes_with_the_report_but_not_into_its_json() -> None:
    model = object()
    report = Report(kind="training", workflow="train", name="a").with_model(model)
    assert report.model is model
    assert "model" not in json.loads(report.to_json())


CASES: list[tuple[str, list[str], Kind]] = [
    ("train", ["curve"], "training"),
    ("tune", ["trials", "front"], "search"),
    ("tune", [], "search"),
    ("prune", ["stages", "layers", "rounds"], "pruning"),
    ("prune", ["stages", "groups", "costs"], "units"),
    ("prune", ["layers"], "weights_file"),
    ("prune", [], "pruning"),
    ("distill", ["learners", "costs"], "distillation"),
    ("inspect", ["layers", "macs"], "inspection"),
    ("inspect", ["groups", "places", "frozen"], "groups"),
    ("evaluate", [], "evaluation"),
    ("export", ["checks"], "export"),
    ("replay", [], "replay"),
]


@pytest.mark.parametrize(("workflow", "names", "kind"), CASES)
def test_reports_from_before_kinds_get_theirs(workflow: str, names: list[str], kind: Kind) -> None:
    assert kind_of(workflow, names) == kind
    old = {"workflow": workflow, "name": "a", "tables": {name: {"columns": [], "rows": []} for name in names}}
    assert Report.model_validate(old).kind == kind
    assert Report.model_validate_json(json.dumps(old)).kind == kind


def test_every_kind_that_was_written_before_is_a_case() -> None:
    later = {"plan", "comparison", "storage", "compression", "pick"}
    assert {kind for _, _, kind in CASES} == set(get_args(Kind)) - later


EMPTY: dict[str, Any] = {"columns": [], "rows": []}


@pytest.mark.parametrize(
    ("names", "workflow"), [(["trials"], "train"), (["trials", "stages"], "prune"), (["learners"], "distill")]
)
def test_searches_from_before_kinds_say_what_a_trial_was(names: list[str], workflow: str) -> None:
    old: dict[str, Any] = {"workflow": "tune", "name": "a", "tables": dict.fromkeys(names, EMPTY)}
    assert Report.model_validate(old).details["workflow"] == workflow
    new = {**old, "details": {"workflow": "prune"}}
    assert Report.model_validate(new).details["workflow"] == "prune"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="kind"):
        Report.model_validate({"workflow": "train", "name": "a", "kind": "no such kind"})


def test_cells_keep_their_types() -> None:
    cells: list[Cell] = [True, 1, 1.0, "1", None]
    table = Table.model_validate_json(Table(columns=list("abcde"), rows=[cells]).model_dump_json())
    assert [type(cell) for cell in table.rows[0]] == [type(cell) for cell in cells]
