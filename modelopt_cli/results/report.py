"""What a workflow returns: plain data with a JSON round trip. The CLI renders it, run directories keep it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from modelopt_cli.core.references import without_values

Cell = str | int | float | bool | None


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


class GateResult(BaseModel):
    """One gate: the condition as written, the value found (None: no such metric), the margin (positive: met)."""

    model_config = ConfigDict(frozen=True)

    condition: str
    met: bool
    value: float | None
    margin: float | None


class Report(BaseModel):
    """The result of one run of a workflow."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    format: int = 1
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

    @property
    def model(self) -> Any:
        """The trained model's checkpoint, in the process that trained it; not part of the JSON."""
        return self._model

    def to_json(self) -> str:
        """The report as a JSON document for others to read: without values that came from the environment."""
        return json.dumps(without_values(json.loads(self.model_dump_json())), indent=2, ensure_ascii=False)

    def with_model(self, model: Any) -> Self:
        """The same report, carrying the trained model."""
        self._model = model
        return self
