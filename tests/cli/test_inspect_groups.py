"""`modelopt inspect --groups`: units, what one costs, what is frozen and why, and the share that can go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelopt_cli.models.files import checkpoints
from modelopt_cli.models.measure import count, macs
from modelopt_cli.results.report import Table
from tests.support.cli import Cli

MINE = """\
import torch
from torch import nn
class Attention(nn.Module):
    \"\"\"Its sizes are written out, so it cannot lose heads in place.\"\"\"
    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(2, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)
    def forward(self, inputs):
        hidden = self.embed(inputs.reshape(-1, 2, 2))
        query, key, value = self.qkv(self.norm(hidden)).reshape(-1, 2, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(-1, 2, 8)
        return self.head((hidden + self.out(mixed)).sum(1))
class Branching(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
    def forward(self, inputs):
        outputs = super().forward(inputs)
        if outputs.sum() > 0:
            outputs = -outputs
        return outputs
class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)) for _ in range(5))
        self.wide = nn.ModuleList(nn.Sequential(nn.Linear(4, 5 + i), nn.ReLU(), nn.Linear(5 + i, 4)) for i in range(60))
        self.head = nn.Linear(4, 3)
    def forward(self, inputs):
        for block in [*self.blocks, *self.wide]:
            inputs = inputs + block(inputs)
        return self.head(inputs)
"""


def table(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return Table.model_validate(report["tables"][name]).records()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The weights of one of the modules above in bare.pt, and its experiment file."""

    def write(name: str) -> Path:
        (tmp_path / "mine.py").write_text(MINE)
        names: dict[str, type[torch.nn.Module]] = {}
        exec(MINE, names)
        torch.save(names[name]().state_dict(), tmp_path / "bare.pt")
        path = tmp_path / "mine.yaml"
        path.write_text(f"data: {{type: iris}}\nmodel: {{type: python, target: 'mine:{name}'}}\n")
        return path

    return write


def test_a_model_of_modelopt_and_what_a_unit_costs(cli: Cli, quick: Path) -> None:
    assert cli("train", quick, "--quiet", "--out", "run", "--set", "model.hidden=[8,6]").code == 0
    report = json.loads(cli("inspect", "run/model.pt", "--groups", "--json").out)
    first, second = table(report, "groups")
    assert (first["group"], first["units"], first["how"]) == ("layers.0", 8, "in place")
    assert first["made in"] == "layers.0.weight[0], layers.0.bias[0]"
    assert first["taken in"] == "layers.2.weight[1]"
    assert (first["computed over"], first["tied to"], first["why not in place"]) == (None, None, None)
    assert (first["parameters of a unit"], first["macs of a unit"]) == (4 + 1 + 6, 4 + 6)
    assert (second["parameters of a unit"], second["macs of a unit"]) == (8 + 1 + 3, 8 + 3)
    module = checkpoints.load("run/model.pt").model
    assert report["metrics"]["model.macs"] == macs(module, torch.randn(1, 4))[""]
    assert report["metrics"]["model.parameters"] == count(module.parameters())["model.parameters"]
    frozen = {row["where"]: row for row in table(report, "frozen")}
    assert frozen["layers.4.weight[0]"]["also in"] == "layers.4.bias[0]"
    assert frozen["layers.4.weight[0]"]["why"] == "an output of the model"
    assert (frozen["layers.4.weight[0]"]["parameters"], frozen["layers.4.weight[0]"]["in no group"]) == (21, 3)
    assert (frozen["layers.0.weight[1]"]["parameters"], frozen["layers.0.weight[1]"]["in no group"]) == (32, 0)
    coverage = report["details"]["coverage"]
    total = 4 * 8 + 8 + 8 * 6 + 6 + 6 * 3 + 3
    assert coverage["parameters"] == total
    assert coverage["share"] == coverage["share_without_shifts"] == pytest.approx(1 - 3 / total)
    assert coverage["reasons"] == {"an output of the model": {"parameters": 3, "share": pytest.approx(3 / total)}}
    assert {(row["tensor"], row["dimension"], row["role"]) for row in table(report, "places")} >= {
        ("layers.0.weight", 0, "made"),
        ("layers.4.weight", 1, "taken"),
    }


@pytest.mark.slow
def test_a_slim_model_is_looked_at_as_it_is(cli: Cli, quick: Path) -> None:
    neurons = "pruning={amount: 0.5, structure: {type: neurons, apply: graph}, importance: l2}"
    assert cli("prune", quick, "--quiet", "--out", "run", "--set", neurons).code == 0
    report = json.loads(cli("inspect", "run/model.pt", "--groups", "--json").out)
    (group,) = table(report, "groups")
    assert (group["units"], group["how"], group["why not in place"]) == (4, "graph", "the model is a graph already")
    assert "G go from the graph alone" in cli("inspect", "run/model.pt", "--groups").out


@pytest.mark.slow
def test_bare_weights_of_a_model_that_cannot_shrink_in_place(cli: Cli, mine: Callable[[str], Path]) -> None:
    words = ("inspect", "bare.pt", "--groups", "--experiment", mine("Attention"))
    groups = {row["group"]: row for row in table(json.loads(cli(*words, "--json").out), "groups")}
    assert groups["embed"]["computed over"] == "statistics in norm"
    assert groups["qkv"]["how"] == "graph"
    assert "mine.py:11" in groups["qkv"]["why not in place"]
    shown = cli(*words).out
    for part in ("! change what is computed over all units", "embed: statistics in norm", "G go from the graph alone"):
        assert part in shown
    assert "those without ! hold" in shown


@pytest.mark.slow
def test_alike_blocks_share_a_row_and_long_lists_are_cut(cli: Cli, mine: Callable[[str], Path]) -> None:
    words = ("inspect", "bare.pt", "--groups", "--experiment", mine("Blocks"))
    assert len(table(json.loads(cli(*words, "--json").out), "groups")) == 5 + 60 + 0
    shown = cli(*words).out
    (row,) = [line.split() for line in shown.splitlines() if "blocks.*.0" in line]
    assert row[1:5] == ["5", "6", "9", "8"]
    assert "... and 21 more (--json has them all)" in shown


@pytest.mark.slow
def test_mistakes(cli: Cli, mine: Callable[[str], Path], quick: Path) -> None:
    svc = Path("svc.yaml")
    svc.write_text("data: {type: iris}\nmodel: {type: sklearn, estimator: sklearn.svm.SVC}\n")
    assert cli("train", svc, "--quiet", "--out", "svc").code == 0
    experiment = mine("Branching")
    for words, message in (
        (("svc/model.pt",), "scikit-learn estimator"),
        (("bare.pt",), "--experiment FILE"),
        (("bare.pt", "--measure"), "leave out --measure"),
        (("bare.pt", "--baseline", "bare.pt"), "leave out --measure"),
        (("bare.pt", "--experiment", experiment), "mine.py:19: `if outputs.sum() > 0:`: what runs there depends on"),
    ):
        result = cli("inspect", *words, "--groups")
        assert (result.code, result.out) == (2, "")
        assert message in result.err
    document = json.loads(cli("inspect", "bare.pt", "--experiment", experiment, "--groups", "--json").out)
    assert document["error"]["exit_code"] == 2
    for part in ("operator aten.gt", "torch.where", "pruning.structure: weights needs no graph"):
        assert part in document["error"]["message"]


@pytest.mark.slow
def test_in_a_narrow_terminal_places_stand_below_the_group(
    cli: Cli, mine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("inspect", "bare.pt", "--experiment", mine("Blocks"), "--groups")
    assert " made in → taken in" in cli(*words).out
    monkeypatch.setenv("COLUMNS", "80")
    narrow = cli(*words).out
    assert "group, made in → taken in" in narrow
    assert "   → ..2.weight[1]" in narrow, "not torn"
    above, legend, _ = narrow.partition("parameters and MACs (of a sample)")
    assert legend, "in one line, as this is no terminal"
    assert max(map(len, above.splitlines())) <= 80
