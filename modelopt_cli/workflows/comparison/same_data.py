"""Whether runs were judged on the same samples. Where they were not, a difference of metrics says little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.seeds import derive
from modelopt_cli.core.strategy import FAMILIES, Family, asked_first
from modelopt_cli.data.sources import DataSource
from modelopt_cli.workflows.shared.reporting import DATA
from modelopt_cli.workflows.shared.run_files import flatten

if TYPE_CHECKING:
    from modelopt_cli.workflows.comparison.runs import ComparedRun

_SAYS_LITTLE = "so a difference of their metrics says little about the models"


def data_warnings(first: ComparedRun, other: ComparedRun) -> list[str]:
    """What tells that two runs were judged on different samples, in one sentence; none where nothing does."""
    hashes = [run.report.details.get(DATA) for run in (first, other)]
    if all(hashes) and hashes[0] != hashes[1]:
        return [_told(first, other, "their data differ in content")]
    before, after = _decided(first), _decided(other)
    if before is not None and after is not None:
        changed = [
            f"{path}: {_shown(before.get(path))} and {_shown(after.get(path))}"
            for path in sorted({*before, *after})
            if before.get(path) != after.get(path)
        ]
        if changed:
            return [_told(first, other, "; ".join(changed))]
    counts = [{row["split"]: row["samples"] for row in run.report.records("splits")} for run in (first, other)]
    unlike = sorted(name for name in counts[0] if name in counts[1] and counts[0][name] != counts[1][name])
    if unlike:
        text = "; ".join(f"{name} samples: {counts[0][name]:,} and {counts[1][name]:,}" for name in unlike)
        return [_told(first, other, text)]
    return []


def _told(first: ComparedRun, other: ComparedRun, why: str) -> str:
    return f"{first.letter} and {other.letter} were not judged on the same samples ({why}), {_SAYS_LITTLE}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _decided(run: ComparedRun) -> Mapping[str, Any] | None:
    """What of the file decides which samples there are; None where the file is not known, or names no data."""
    data = (run.base or {}).get("data")
    if not isinstance(data, dict):
        return None
    inputs = {*_changes_inputs(str(data.get("type"))), "trust_code"}
    kept = {f"data.{name}": value for name, value in flatten(data).items() if name.partition(".")[0] not in inputs}
    evaluation = (run.base or {}).get("evaluation")
    for name in ("groups", "order", "cv"):
        kept[f"evaluation.{name}"] = evaluation.get(name) if isinstance(evaluation, dict) else None
    if kept.get("data.splits.seed") is None:  # the experiment's seed decides
        kept["data.splits.seed"] = derive(int((run.base or {}).get("seed") or 0), "data")
    return kept


def _changes_inputs(name: str) -> frozenset[str]:
    """Options of a data source that leave its samples and targets alone. Other packages' code is not imported."""

    def refuse(family: Family, name: str, target: str) -> None:
        raise KeyError(name)

    with asked_first(refuse):
        try:
            source = FAMILIES["data"].get(name)
        except KeyError:
            source = DataSource
    return source.changes_inputs if issubclass(source, DataSource) else DataSource.changes_inputs
