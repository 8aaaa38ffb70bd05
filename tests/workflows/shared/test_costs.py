"""A ratio is that of the two figures beside it, and timings that are not to be relied on are told as such."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modelopt_cli.api import load
from modelopt_cli.models import latency as timing
from modelopt_cli.models.latency import Latency, noise
from modelopt_cli.results.report import Report, Table
from modelopt_cli.workflows import distill, prune
from modelopt_cli.workflows.shared.context import Context
from modelopt_cli.workflows.shared.costs import with_ratios

DOCUMENT: dict[str, Any] = {
    "name": "costs",
    "data": {"type": "iris", "splits": {"validation": 0.2, "test": 0.2, "seed": 0}},
    "model": {"type": "mlp", "hidden": [8]},
    "training": {"epochs": 1},
}
PRUNING = {"structure": "neurons", "importance": "l1", "amount": 0.5}
TEACHER = {"teacher": {"model": {"type": "mlp", "hidden": [64]}, "training": {"epochs": 1}}}


def times(name: str, *milliseconds: float) -> Latency:
    return Latency(name, 64, 1, "cpu", milliseconds)


QUIET = times("before", 2.0, 2.1, 1.9, 2.0, 2.0), times("after", 1.0, 1.05, 0.95, 1.0, 1.0)
# medians 22.7 and 1.4; turn by turn about 3: what was seen on a loaded machine
LOADED = times("before", 22.7, 22.7, 22.7, 4.2, 4.2), times("after", 1.4, 7.0, 7.1, 1.4, 1.4)


def test_what_is_noisy() -> None:
    assert noise(*QUIET) == noise(*reversed(QUIET)) == ""
    assert "noisy (before: half of the turns took 4.2 to 22.7 ms)" in noise(*LOADED)
    paired = times("before", 1.0, 1.0, 1.4, 1.4, 1.4), times("after", 1.0, 1.0, 1.0, 1.4, 1.4)
    assert "turn by turn" in noise(*paired)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def latency(contenders: Any, inputs: Any, sizes: Any = (1, 64), **_: Any) -> list[Latency]:
        loads = {"before": LOADED[0], "after": LOADED[1]}
        order = list(contenders)
        pair = [loads["before"], loads["after"]] if order[0] == "before" else list(loads.values())
        return [
            Latency(name, size, 1, "cpu", one.times) for size in sizes for name, one in zip(order, pair, strict=True)
        ]

    monkeypatch.setattr(timing, "latency", latency)


def ratios(report: Report) -> list[tuple[float, float, float]]:
    table = report.tables["costs"]
    names = ("before", "after") if "before" in table.columns else ("teacher", "student")
    rows = table.records()
    return [(row[names[0]], row[names[1]], row["times less"]) for row in rows]


@pytest.mark.slow
@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("kind", ["prune", "distill"])
def test_ratios_are_of_the_figures_beside_them(kind: str, seeds: int) -> None:
    section: dict[str, Any] = {"pruning": PRUNING} if kind == "prune" else {"distillation": TEACHER}
    chosen = load({**DOCUMENT, **section, "seeds": seeds})
    report = (prune if kind == "prune" else distill).run(chosen, Context())
    for before, after, less in ratios(report):
        assert less == pytest.approx(before / after)
    noisy = [text for text in report.warnings if "is noisy" in text]
    assert len(noisy) == 1, "one stands for a batch of 1 and of 64"
    assert not any("noisy" in text for text in report.model.warnings), "of the machine, not of the model"


def test_ratios_of_means() -> None:
    table = Table(
        columns=["what", "before", "before_std", "after", "after_std", "times less", "times less_std"],
        rows=[["ms", 3.0, 1.0, 2.0, 0.5, 9.0, 1.0], ["bytes", 3.0, 0.0, 0.0, 0.0, None, None]],
    )
    assert [row[5] for row in with_ratios(table).rows] == [1.5, None]
    alone = Table(columns=["what", "student"], rows=[["ms", 1.0]])
    assert with_ratios(alone) == alone


@pytest.mark.usefixtures("loaded")
def test_inspect_with_a_baseline(tmp_path: Any) -> None:
    from modelopt_cli.models.files import checkpoints
    from modelopt_cli.workflows.inspect import weights as inspect_file

    torch.manual_seed(0)
    report = prune.run(load({**DOCUMENT, "pruning": PRUNING}), Context())
    checkpoints.save(tmp_path / "a.pt", report.model)
    checkpoints.save(tmp_path / "b.pt", report.model)
    inspected = inspect_file.run(tmp_path / "a.pt", baseline=tmp_path / "b.pt")
    table = inspected.tables["latency"]
    rows = table.records()
    medians = {row["model"]: row["median ms"] for row in rows}
    first = rows[0]
    assert first["relative to baseline"] == pytest.approx(medians["a.pt"] / medians["b.pt (baseline)"])
    assert sum("is noisy" in text for text in inspected.warnings) == 1  # which speaks for both sizes
