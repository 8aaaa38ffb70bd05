"""`modelopt inspect`: counted by hand and by numpy."""

from __future__ import annotations

import json

import numpy as np
import torch


def test_counts_and_histograms(cli, tmp_path):
    weight = torch.tensor([[0.0, -2.0, 1.0, 0.5], [0.0, 0.0, 2.0, float("nan")]])
    state = {"a.weight": weight, "b.weight": weight, "steps": torch.tensor(3), "none": torch.empty(0, 4)}
    torch.save({"state_dict": state}, "m.pt")
    report = json.loads(cli("inspect", "m.pt", "--json").out)
    rows = {row[0]: row[1:] for row in report["tables"]["layers"]["rows"]}
    finite = weight[weight.isfinite()].double().numpy()
    assert rows["a.weight"][:5] == ["2x4", "float32", 8, 3, 3 / 8]
    np.testing.assert_allclose(rows["a.weight"][5:8], [finite.mean(), finite.std(), 2.0])
    assert rows["b.weight"][-1] == "a.weight", "tied"
    assert rows["steps"][:3] == ["scalar", "int64", 1]
    expected, _ = np.histogram(finite, bins=16, range=(-2, 2))
    assert report["details"]["histograms"]["a.weight"] == expected.tolist()
    assert report["metrics"]["model.parameters"] == 9
    assert "the weights under 'state_dict'" in report["details"]["note"]


def test_the_table_names_everything(cli, quick):
    assert cli("train", quick, "--quiet", "--out", "run").code == 0
    result = cli("inspect", "run/model.pt")
    assert result.code == 0
    for part in (*torch.load("run/model.pt", weights_only=True)["state"], "f32", "8x4", "compressed", "█"):
        assert part in result.out


def test_what_is_no_model(cli, tmp_path):
    (tmp_path / "x.pt").write_text("no")
    for name, code in (("x.pt", 2), ("absent.pt", 2)):
        result = cli("inspect", name)
        assert result.code == code
        assert name in result.err
