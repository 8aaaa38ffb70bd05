"""Values that came in by ${NAME}: in no file of a run, and yet the run goes on and its files run again."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelopt_cli import evaluate, load, predict, prune, train, tune
from modelopt_cli.core.consent import Consent
from modelopt_cli.core.errors import InputError, UsageError
from modelopt_cli.core.references import (
    Reference,
    Written,
    digest,
    escape,
    is_of,
    remember,
    restored,
    stored,
    substitute,
)
from modelopt_cli.core.yaml_dumper import dump
from modelopt_cli.models.files import checkpoints
from modelopt_cli.results.report import Report

SECRET = "hunter2-of-the-deep"
SCRIPT = """\
import json
import sys

value, token = float(sys.argv[1]), sys.argv[2]
if value > 0.5:
    sys.exit(f"the server said no to {token}")
print(json.dumps({"loss": value}))
"""
SEARCH = """\
version: 1
command: {argv: [python, s.py, "{a}", "${TOKEN}", "--auth=Bearer ${TOKEN}"], parameters: {a: 0.25}}
tuning:
  workflow: command
  sampler: random
  objective: minimize loss
  trials: ${TRIALS:-4}
  space: {command.parameters.a: {float: [0, 1]}}
"""


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", SECRET)
    (tmp_path / "s.py").write_text(SCRIPT)
    (tmp_path / "e.yaml").write_text(SEARCH)
    return tmp_path


def holding(folder: Path, text: str) -> list[str]:
    """Files that hold the text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


@pytest.mark.slow
def test_no_file_of_a_search_holds_it(search: Path) -> None:
    report = tune(load("e.yaml"), "run")
    assert holding(search / "run", SECRET) == []
    assert any("no to ${TOKEN}" in str(row) for row in report.tables["trials"].rows), "a script's last line told it"
    best = (search / "run/best.yaml").read_text()
    assert "'${TOKEN}'" in best
    assert "--auth=Bearer ${TOKEN}" in best


@pytest.mark.slow
def test_best_yaml_runs_again_in_the_same_environment(search: Path) -> None:
    report = tune(load("e.yaml"), "run")
    again = load(search / "run/best.yaml")
    assert again.require_command().argv[3:] == (SECRET, f"--auth=Bearer {SECRET}")
    assert train(again).metrics["loss"] == report.metrics["loss"]


@pytest.mark.slow
def test_resuming_notices_another_value(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(load("e.yaml"), "run")
    assert len(tune(load("e.yaml", ["tuning.trials=5"]), "run", resume=True).tables["trials"].rows) == 5
    monkeypatch.setenv("TOKEN", "another-value")
    with pytest.raises(UsageError, match="the environment variable TOKEN: another value") as caught:
        tune(load("e.yaml", ["tuning.trials=6"]), "run", resume=True)
    assert "another-value" not in str(caught.value)


@pytest.mark.slow
def test_resuming_with_another_number_that_may_change(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALS", "3")
    tune(load("e.yaml"), "run")
    monkeypatch.setenv("TRIALS", "5")
    assert len(tune(load("e.yaml"), "run", resume=True).tables["trials"].rows) == 5


@pytest.mark.slow
def test_a_run_of_before_is_resumed(search: Path) -> None:
    """Earlier versions wrote the values themselves, and no digests."""
    tune(load("e.yaml"), "run")
    path = search / "run/experiment.yaml"
    path.write_text(path.read_text().replace("${TOKEN}", SECRET))
    (search / "run/environment.json").write_text("{}")
    assert len(tune(load("e.yaml", ["tuning.trials=5"]), "run", resume=True).tables["trials"].rows) == 5


def test_from_the_command_line(search: Path) -> None:
    experiment = load("e.yaml", ["command.parameters.key=${TOKEN}", 'command.argv=[python, s.py, "{a}", "{key}"]'])
    written = dump(experiment.written())
    assert "key: ${TOKEN}" in written.replace("'", "")
    assert "Bearer" not in written, "what was replaced is gone"
    assert SECRET not in written


def test_settings_stay_readable(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short number is a setting: a run's file says what it was."""
    monkeypatch.setenv("TRIALS", "7")
    assert yaml.safe_load(dump(load("e.yaml").written()))["tuning"]["trials"] == 7


def test_a_number_of_many_digits_is_a_secret(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIN", "73819274")
    experiment = load("e.yaml", ["command.parameters.pin=${PIN}", 'command.argv=[python, s.py, "{a}", "{pin}"]'])
    text = dump(experiment.written())
    assert "73819274" not in text
    Path("again.yaml").write_text(text)
    assert load("again.yaml").require_command().parameters["pin"] == 73819274


def test_it_goes_along_to_other_processes(search: Path) -> None:
    there = pickle.loads(pickle.dumps(load("e.yaml")))
    assert SECRET not in dump(there.written())


@given(st.text(st.sampled_from("a{}$:-\\'\" \n0ü"), max_size=12))
def test_what_is_escaped_reads_as_it_was(text: str) -> None:
    assert substitute(escape(text)) == text
    assert yaml.safe_load(dump({"a": [text]})) == {"a": [escape(text)]}


@given(st.lists(st.sampled_from(["${A}", "x ${A}", "plain", "${A:-b}"]), min_size=1), st.booleans())
def test_references_are_written_so_that_they_read_again(texts: list[str], plain: bool) -> None:
    written = yaml.safe_load(dump({"a": [Written(text, plain) for text in texts]}))
    assert written == {"a": texts}


def test_a_digest_knows_its_value_alone() -> None:
    assert is_of("value", digest("value"))
    assert not is_of("other", digest("value"))
    assert digest("value") != digest("value"), "salted"
    assert "value" not in digest("value")


def test_the_environment_is_not_changed(search: Path) -> None:
    before = dict(os.environ)
    load("e.yaml")
    assert dict(os.environ) == before


SOURCE = """\
import numpy as np


def read(token, limit):
    assert token == "hunter2-of-the-deep", token
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(limit, 4))
    return inputs, (inputs[:, 0] > 0).astype(int)
"""
NETWORK = """\
from torch import nn


def build(inputs, outputs, key):
    assert key == "hunter2-of-the-deep", key
    return nn.Linear(inputs[0], outputs)
"""
TRAINED = """\
version: 1
data:
  type: python
  target: src:read
  arguments: {token: "${TOKEN}", limit: 60}
  splits: {validation: 0.2, test: 0.2, seed: 0}
model: {type: python, target: net:build, arguments: {key: "${TOKEN}"}}
training: {epochs: 1, batch_size: 16}
pruning: {amount: 0.5, all: true}
"""


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", SECRET)
    (tmp_path / "src.py").write_text(SOURCE)
    (tmp_path / "net.py").write_text(NETWORK)
    (tmp_path / "t.yaml").write_text(TRAINED)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("workflow", [train, prune])
def test_no_model_holds_it(trained: Path, workflow: Any, seeds: int) -> None:
    workflow(load("t.yaml", [f"seeds={seeds}"]), "run")
    assert holding(trained / "run", SECRET) == []


def test_the_model_works_in_the_same_environment_and_says_what_it_lacks_in_another(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = train(load("t.yaml"), "run")
    metrics = evaluate("run/model.pt", trust_code=True).metrics
    assert metrics["test.accuracy"] == report.metrics["test.accuracy"]
    checkpoints.save("again.pt", checkpoints.load("run/model.pt", Consent(everything=True)))
    assert holding(trained, SECRET) == ["src.py", "net.py"], "kept when it is saved again"
    mlp = train(load("t.yaml", ["model={type: mlp, hidden: [4]}"]), "mlp")
    assert mlp.status == "completed"
    monkeypatch.delenv("TOKEN")
    again = checkpoints.read("again.pt")
    stripped = checkpoints.load("mlp/model.pt")
    assert again["data"]["arguments"] == {"token": "${TOKEN}", "limit": 60}
    with pytest.raises(InputError, match=r"data\.arguments\.token of the model is \$\{TOKEN\}.* is not set"):
        stripped.data_section()


def test_predicting_needs_no_secret_of_the_data(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(load("t.yaml", ["model={type: mlp, hidden: [4]}"]), "run")
    monkeypatch.delenv("TOKEN")
    np.save("new.npy", np.zeros((3, 4)))
    assert len(predict("run/model.pt", "new.npy").rows) == 3
    with pytest.raises(InputError, match=r"TOKEN"):
        evaluate("run/model.pt", trust_code=True)


def test_a_file_makes_nobody_send_his_environment(trained: Path) -> None:
    """A hostile model.pt may name any variable; its value must reach no server."""
    train(load("t.yaml", ["model={type: mlp, hidden: [4]}"]), "run")
    content = checkpoints.read("run/model.pt")
    content["data"] = {"type": "openml", "dataset": "${TOKEN}"}
    content["references"] = [[["data", "dataset"], False]]
    torch.save(content, "evil.pt")
    assert checkpoints.load("evil.pt").data["dataset"] == "${TOKEN}"


ODD = 'pa"ss\\wörd,\nsecond-line-of-it'


@pytest.mark.slow
def test_a_value_with_quotes_and_several_lines_is_in_no_file(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", ODD)
    report = tune(load("e.yaml"), "run")
    assert any(state == "failed" for row in report.tables["trials"].rows for state in row), "its reason told the token"
    for line in (*ODD.splitlines(), "second-line", 'pa\\"ss', 'pa""ss', "w\\u00f6rd"):
        assert holding(search / "run", line) == []
    for path in (search / "run").glob("*.json"):
        json.loads(path.read_text())


@pytest.mark.slow
def test_one_that_is_searched_is_in_no_file_and_yet_comes_back(search: Path) -> None:
    space = (
        "space: {command.parameters.a: {float: [0, 1]}, command.parameters.t: ['${TOKEN}', 'x-${TOKEN}', '$${TOKEN}']}"
    )
    text = SEARCH.replace("space: {command.parameters.a: {float: [0, 1]}}", space).replace("a: 0.25", "a: 0.25, t: t")
    Path("e.yaml").write_text(text.replace('"--auth=', '"{t}", "--auth='))
    first = tune(load("e.yaml"), "run", resume=False)
    assert holding(search / "run", SECRET) == []
    monkeyed = text.replace('"--auth=', '"{t}", "--auth=').replace("TRIALS:-4", "TRIALS:-6")
    Path("e.yaml").write_text(monkeyed)
    resumed, whole = tune(load("e.yaml"), "run", resume=True), tune(load("e.yaml"), "whole")
    assert holding(search / "run", SECRET) == []

    def tried(report: Report) -> list[object]:
        column = report.tables["trials"].columns.index("command.parameters.t")
        return [row[column] for row in report.tables["trials"].rows]

    assert tried(first) == tried(whole)[: len(tried(first))]
    assert tried(resumed) == tried(whole)
    assert {SECRET, f"x-{SECRET}"} & set(tried(resumed)), "in the process itself they are what they stand for"


@pytest.mark.slow
def test_what_names_results_keeps_its_name(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"METRIC": "my_accuracy", "RUN": "nightly", "SEED": "123456"}.items():
        monkeypatch.setenv(name, value)
    Path("s.py").write_text(SCRIPT.replace('"loss"', '"my_accuracy"'))
    text = SEARCH.replace("minimize loss", 'maximize "${METRIC}"'.replace('"', ""))
    Path("e.yaml").write_text(f"name: x-${{RUN}}\nseed: ${{SEED}}\ngates: ['${{METRIC}} >= 0']\n{text}")
    tune(load("e.yaml"), "run")
    report = json.loads((search / "run/report.json").read_text())
    assert report["seed"] == 123456
    assert report["name"] == "x-nightly"
    assert "my_accuracy" in report["metrics"]
    assert "my_accuracy" in (search / "run/trials.csv").read_text().splitlines()[0]
    assert json.loads((search / "run/environment.json").read_text())["seed"] == 123456


@given(st.text(alphabet="$x{TOKEN}y-"))
def test_what_is_stored_is_restored(text: str) -> None:
    reference = Reference("${TOKEN}", SECRET, {"TOKEN": SECRET})
    remember({("model", "token"): reference})
    for value in (text, text + SECRET, {text: [SECRET, 1, None]}):
        assert restored(stored(value)) == value
        assert SECRET not in json.dumps(stored(value))
