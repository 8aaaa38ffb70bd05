"""The predictions of a regression on one split, a panel's rows for each target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelopt_cli.results.report import Report


def predictions_of(report: Report) -> tuple[str, Mapping[str, list[dict[str, Any]]]]:
    """(split, target -> rows with true, predicted and residual); empty where there are none."""
    table = report.records("predictions")
    splits = [row["split"] for row in table]
    split = "test" if "test" in splits else splits[0] if splits else ""
    targets: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        if row["split"] == split and row["true"] is not None and row["predicted"] is not None:
            both = {"true": row["true"], "predicted": row["predicted"], "residual": row["predicted"] - row["true"]}
            targets.setdefault(str(row.get("target") or ""), []).append(both)
    return split, dict(list(targets.items())[:9])
