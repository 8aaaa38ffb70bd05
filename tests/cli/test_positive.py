"""The positive class on the command line."""

from __future__ import annotations

from pathlib import Path

from tests.support.cli import Cli

FILE = """\
version: 1
name: churn
data: {type: csv, path: churn.csv, target: churn}
model: {type: sklearn, estimator: sklearn.tree.DecisionTreeClassifier}
"""


def test_the_positive_class_is_named_and_a_wrong_one_refused(cli: Cli) -> None:
    lines = [f"{number % 7},{'stays' if number % 3 else 'churned'}" for number in range(60)]
    Path("churn.csv").write_text("\n".join(["a,churn", *lines]) + "\n")
    Path("e.yaml").write_text(FILE)
    shown = cli("train", "e.yaml")
    assert "positive class stays" in shown.out
    assert "warning: the positive class of recall_binary" in shown.out
    chosen = cli("train", "e.yaml", "--set", "data.positive=churned")
    assert "positive class churned" in chosen.out
    assert "warning" not in chosen.out
    assert "positive class churned" in cli("evaluate", "runs/churn/2/model.pt").out
    for dry in ((), ("--dry-run",)):
        refused = cli("train", "e.yaml", "--set", "data.positive=gone", *dry)
        assert refused.code == 2
        assert "Its classes: churned, stays" in refused.err
