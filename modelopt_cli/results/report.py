"""What a workflow returns: plain data with a JSON round trip. The CLI renders it, run directories keep it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from modelopt_cli.core.errors import UsageError, did_you_mean
from modelopt_cli.core.references import without_values

if TYPE_CHECKING:
    import pandas as pd

    from modelopt_cli.results.charts.chart import Chart

Cell = str | int | float | bool | None


Kind = Literal[
    "training",  # one model (or a script) trained; of several seeds too, as all kinds
    "search",  # trials over a space
    "pruning",  # weights of a model set to zero, judged on its data
    "units",  # units of a model taken out, judged on its data
    "weights_file",  # a file of weights pruned without its model's code
    "distillation",  # a student and whom it is compared with
    "compression",  # a model made smaller in stages, each compared with the first
    "evaluation",  # a saved model judged on a split or on new data
    "inspection",  # the tensors of a file of weights, and what the model costs
    "groups",  # the units of a model that stand or fall together
    "export",  # a model written in another format
    "storage",  # the trials of a search, written as another tool's study
    "pick",  # one trial's model of a search, trained out or as it was kept, judged on test
    "replay",  # a search's log asked again
    "comparison",  # several runs side by side
    "plan",  # a dry run of any of these: what it would take
]
"""What a report is about: it says which tables and details (results/details.py) there are, and how it is shown."""


class Table(BaseModel):
    """Rows of plain cells; every row has a cell for each column."""

    model_config = ConfigDict(frozen=True)

    columns: list[str]
    rows: list[list[Cell]]

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> Self:
        """Columns in order of first appearance; what a record lacks is empty."""
        columns = list(dict.fromkeys(key for record in records for key in record))
        return cls(columns=columns, rows=[[record.get(column) for column in columns] for record in records])

    def records(self) -> list[dict[str, Any]]:
        """A mapping a row, from column to cell."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_pandas(self) -> pd.DataFrame:
        """A data frame of the same columns, each with the type of what is in it (results/frames.py)."""
        from modelopt_cli.results.frames import frame

        return frame(self.columns, self.rows)


class GateResult(BaseModel):
    """One gate: the condition as written, the value found (None: no such metric), the margin (positive: met).

    `reason`: why there is no value, where the report alone does not say it.
    """

    model_config = ConfigDict(frozen=True)

    condition: str
    met: bool
    value: float | None
    margin: float | None
    reason: str = ""


class Report(BaseModel):
    """The result of one run of a workflow."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    format: int = 1
    kind: Kind
    workflow: str
    name: str
    status: Literal["completed", "interrupted", "failed"] = "completed"
    reason: str = ""  # why it failed
    seed: int = 0
    started: str = ""  # ISO 8601 with zone
    seconds: float = 0.0
    metrics: dict[str, float] = {}
    best: dict[str, Any] | None = None  # tune: number, params, metrics of the best trial
    tables: dict[str, Table] = {}  # e.g. "trials", "curve", "folds"
    gates: list[GateResult] = []
    plan: dict[str, Any] = {}  # what was estimated beforehand, beside what it took
    details: dict[str, Any] = {}  # workflow-specific plain data
    artefacts: dict[str, str] = {}  # what -> path
    warnings: list[str] = []

    _model: Any = PrivateAttr(default=None)
    _beside: Mapping[str, Table] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_before(cls, content: Any) -> Any:
        """Reports that were written before they had a kind are given theirs, and those of searches what a trial was."""
        if isinstance(content, Mapping) and "kind" not in content:
            tables = content.get("tables") or {}
            kind = kind_of(str(content.get("workflow")), tables)
            details = dict(content.get("details") or {})
            if kind == "search" and "workflow" not in details:
                details["workflow"] = "prune" if "stages" in tables else "distill" if "learners" in tables else "train"
            return {**content, "kind": kind, "details": details}
        return content

    @property
    def model(self) -> Any:
        """The trained model's checkpoint, in the process that trained it; not part of the JSON."""
        return self._model

    @property
    def beside(self) -> Mapping[str, Table]:
        """Tables too large for the JSON document: files beside it in the run's folder, read when they are asked for."""
        return self._beside

    def table(self, name: str) -> Table | None:
        """The table of this name, among `tables` or `beside`; None where there is none.

        Raises InputError where the run's file of it cannot be read.
        """
        return self.tables[name] if name in self.tables else self._beside.get(name)

    def records(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table, see `table`, as records; none where there is no such table."""
        content = self.table(table)
        return [] if content is None else content.records()

    def to_pandas(self, table: str) -> pd.DataFrame:
        """The table of this name as a data frame. Raises UsageError, which lists the tables, where there is none."""
        content = self.table(table)
        if content is None:
            names = list(dict.fromkeys([*self.tables, *self._beside]))
            raise UsageError(
                f"the report has no table '{table}'.{did_you_mean(table, names)} It has: {', '.join(names) or 'none'}"
            )
        return content.to_pandas()

    def to_json(self) -> str:
        """The report as a JSON document for others to read: without values that came from the environment."""
        return json.dumps(without_values(json.loads(self.model_dump_json())), indent=2, ensure_ascii=False)

    def with_model(self, model: Any) -> Self:
        """The same report, carrying the trained model."""
        self._model = model
        return self

    def with_artefact(self, name: str, path: str) -> Self:
        """The same report, which names one more file that the run wrote, first."""
        return self._changed(
            artefacts={name: path, **{key: self.artefacts[key] for key in self.artefacts if key != name}}
        )

    def with_warning(self, text: str) -> Self:
        """The same report with one more warning."""
        return self._changed(warnings=[*self.warnings, text])

    def _changed(self, **values: Any) -> Self:
        """Other values; the model and the tables beside it stay."""
        changed = self.model_copy(update=values)
        changed._model, changed._beside = self._model, self._beside
        return changed

    @property
    def charts(self) -> list[str]:
        """The kinds of charts that this report has something for: what `plot` draws."""
        return list(_shown_by("charts").all_of(self))

    def plot(self, kind: str) -> Chart:
        """A chart, which a notebook shows; `chart.render("png")` gives the bytes of a picture.

        Raises UsageError for a kind that there is not, or that this report has nothing of.
        """
        charts = _shown_by("charts")
        chart: Chart | None = charts.draw(self, kind) if kind in charts.kinds() else None
        if chart is None:
            near = did_you_mean(kind, charts.kinds()) if kind not in charts.kinds() else ""
            raise UsageError(f"this report has no chart '{kind}'.{near} It has: {', '.join(self.charts) or 'none'}")
        return chart

    def _repr_html_(self) -> str:
        html: str = _shown_by("notebook").as_html(self)
        return html

    def __repr__(self) -> str:
        line: str = _shown_by("notebook").in_a_line(self)
        return line

    def __str__(self) -> str:
        return repr(self)

    def with_beside(self, tables: Mapping[str, Table]) -> Self:
        """The same report, with these tables `beside` it."""
        self._beside = tables
        return self


def _shown_by(module: str) -> Any:
    """A module of results/ that shows reports. All of them import this one, so it finds them by name, when asked."""
    return importlib.import_module(f"modelopt_cli.results.{module}")


def kind_of(workflow: str, tables: Collection[str] = ()) -> Kind:
    """The kind of a report that does not say it: by its workflow, and the tables that it has."""
    if workflow == "prune":
        bare = "layers" in tables and "stages" not in tables
        return "units" if "costs" in tables else "weights_file" if bare else "pruning"
    if workflow == "inspect":
        return "groups" if "groups" in tables else "inspection"
    kinds: dict[str, Kind] = {
        "tune": "search",
        "pick": "pick",
        "distill": "distillation",
        "compress": "compression",
        "evaluate": "evaluation",
        "export": "export",
        "replay": "replay",
        "compare": "comparison",
    }
    return kinds.get(workflow, "training")
