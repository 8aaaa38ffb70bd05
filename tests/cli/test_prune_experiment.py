"""`modelopt prune FILE.yaml`, and a file of weights judged by an experiment file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from modelopt_cli import load, prune
from modelopt_cli.models.files import checkpoints
from tests.support.cli import Cli

PRUNING = """\
version: 1
name: small
data: {type: digits, splits: {validation: 0.2, test: 0.2, seed: 0}}
model: {type: mlp, hidden: [32, 16]}
training: {epochs: 4, batch_size: 64, optimizer: {type: sgd, lr: 0.1, momentum: 0.9}}
pruning:
  amount: 0.8
  schedule: {type: rounds, rounds: 2}
  recovery: {epochs: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(PRUNING)
    return path


def report(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "report.json").read_text())
    return content


def test_a_run_holds_before_after_and_recovered_side_by_side(cli: Cli, file: Path, tmp_path: Path) -> None:
    result = cli("prune", file)
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "small" / "1"
    document = report(folder)
    stages = document["tables"]["stages"]
    rows = [dict(zip(stages["columns"], row, strict=True)) for row in stages["rows"]]
    assert [row["stage"] for row in rows] == ["before", "pruned", "final"]
    for split in ("validation", "test"):
        name = f"{split}.accuracy"
        assert document["metrics"][f"{name}_drop"] == pytest.approx(rows[0][name] - rows[2][name])
    assert (folder / "stages.csv").read_text().splitlines()[1].startswith("before,")
    for text in ("before", "recovered", "test.accuracy", "80.00%", "asked", "reached", "rounds", "dense model"):
        assert text in result.out, text
    dense, pruned = (checkpoints.load(folder / name) for name in ("dense.pt", "model.pt"))
    assert dense.metrics["test.accuracy"] == rows[0]["test.accuracy"]
    counts = [int(weight.count_nonzero()) for weight in pruned.model.parameters() if weight.ndim > 1]
    total = sum(weight.numel() for weight in pruned.model.parameters() if weight.ndim > 1)
    assert sum(counts) == total - round(0.8 * total)
    again = cli("evaluate", folder / "model.pt", "--json")
    assert json.loads(again.out)["metrics"]["test.accuracy"] == document["metrics"]["test.accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--threshold", "0.05"], {"threshold": 0.05, "amount": None, "budget": None}),
        (["--amount", "0.5", "--scope", "layer"], {"amount": 0.5, "allocation": {"type": "uniform"}}),
        (["--pattern", "2:4"], {"amount": None, "structure": {"type": "nm", "n": 2, "m": 4}}),
        (["--exclude", "layers.4.*", "--keep-at-least", "0.1"], {"exclude": ["layers.4.*"], "keep_at_least": 0.1}),
        (["--all"], {"all": True, "amount": 0.8}),
    ],
)
def test_options_change_the_pruning_section(cli: Cli, file: Path, options: list[str], left: dict[str, Any]) -> None:
    result = cli("prune", file, "--json", *options)
    assert result.code == 0, result.err
    section = json.loads(result.out)["details"]["pruning"]
    assert {name: section[name] for name in left} == left


def test_a_missed_gate_ends_with_three_and_one_document(cli: Cli, file: Path) -> None:
    result = cli("prune", file, "--json", "--gate", "test.accuracy_drop <= -1")
    assert result.code == 3
    assert json.loads(result.out)["gates"][0]["met"] is False
    assert "gate not met: test.accuracy_drop <= -1" in result.err


def test_dry_run_tells_the_epochs_and_writes_nothing(cli: Cli, file: Path, tmp_path: Path) -> None:
    result = cli("prune", file, "--dry-run")
    assert result.code == 0, result.err
    assert "8 epochs in all" in result.out
    assert not (tmp_path / "runs").exists()


def test_the_python_face_gives_what_the_command_gives(cli: Cli, file: Path, tmp_path: Path) -> None:
    assert cli("prune", file, "--out", "here").code == 0
    returned = prune(load(file))
    stored = report(tmp_path / "here")["metrics"]
    seconds = {"train.seconds"}
    assert {k: v for k, v in returned.metrics.items() if k not in seconds} == {
        k: v for k, v in stored.items() if k not in seconds
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bare.pt", "nested.pth", "wrapped.bin", "plain.safetensors", "model.pt"])
def test_weights_are_judged_before_and_after_and_written_as_they_came(
    cli: Cli, file: Path, tmp_path: Path, kind: str
) -> None:
    assert cli("train", file, "--out", "trained").code == 0
    state = checkpoints.load("trained/model.pt").model.state_dict()
    path = tmp_path / kind
    if kind == "bare.pt":
        torch.save(state, path)
    elif kind == "nested.pth":
        torch.save({"epoch": 4, "state_dict": state}, path)
    elif kind == "wrapped.bin":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    elif kind == "plain.safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        path = tmp_path / "trained" / "model.pt"
    simple = ["--set", "pruning.schedule=one_shot", "--set", "pruning.recovery=null"]
    result = cli(
        "prune", path, "--experiment", file, "--amount", "0.3", *simple, "--json", "--out", f"out{path.suffix}"
    )
    assert result.code == 0, result.err
    document = json.loads(result.out)
    trained = report(tmp_path / "trained")["metrics"]["test.accuracy"]
    assert document["metrics"]["test.accuracy"] + document["metrics"]["test.accuracy_drop"] == pytest.approx(trained)
    out = tmp_path / f"out{path.suffix}"
    if kind == "plain.safetensors":
        after = load_file(out)
    else:
        content = torch.load(out, weights_only=True)
        after = content["state_dict"] if kind == "nested.pth" else content["state"] if kind == "model.pt" else content
        assert kind != "nested.pth" or content["epoch"] == 4
    after = {name.removeprefix("module."): tensor for name, tensor in after.items()}
    assert list(after) == list(state) or kind == "plain.safetensors"
    for name, tensor in state.items():
        kept = after[name] != 0
        assert torch.equal(after[name][kept], tensor[kept])
    zeros = sum(int((after[name] == 0).sum()) for name in state if name.endswith("weight"))
    taken = [name for name in state if name.endswith("weight") and (kind == "model.pt" or name != "layers.4.weight")]
    assert zeros == round(0.3 * sum(state[name].numel() for name in taken))


@pytest.mark.slow
def test_the_files_own_pruning_section_recovers_the_weights(cli: Cli, file: Path, tmp_path: Path) -> None:
    assert cli("train", file, "--out", "trained").code == 0
    result = cli("prune", "trained/model.pt", "--experiment", file, "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["details"]["asked"] == {"amount": 0.8}
    assert len(document["tables"]["rounds"]["rows"]) == 2
    assert (tmp_path / "trained" / "model.pruned.pt").exists()


@pytest.mark.slow
def test_an_interrupted_run_is_shown_kept_and_resumed_to_the_same_model(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelopt_cli.workflows.shared import model_workflow

    advance = model_workflow.advance

    def interrupted(current: Any, curve: Any, context: Any, *closing: Any) -> None:
        def stop_late(event: object) -> None:
            if getattr(event, "step", 0) == 7:
                context.stop.set(2)

        advance(current, curve, replace(context, emit=stop_late), *closing)

    monkeypatch.setattr(model_workflow, "advance", interrupted)
    result = cli("prune", file)
    assert result.code == 130
    assert "--resume" in result.err
    assert "internal error" not in result.err
    run = tmp_path / "runs" / "small" / "1"
    assert report(run)["status"] == "interrupted"
    assert not (run / "model.pt").exists()
    monkeypatch.setattr(model_workflow, "advance", advance)
    assert cli("prune", file, "--resume").code == 0
    assert cli("prune", file, "--out", "whole").code == 0
    for name in ("layers.json", "stages.json", "rounds.json", "curve.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (run / ".state.pt").exists()


BAD = [
    (["small.yaml", "--experiment", "small.yaml"], "are for files of weights"),
    (["small.yaml", "--force"], "are for files of weights"),
    (["m.pt", "--resume", "--amount", "0.5"], "--resume continues the run of an experiment file"),
    (["m.pt", "--set", "seed=1", "--amount", "0.5"], "name one with --experiment FILE"),
    (["m.pt", "--experiment", "small.yaml", "--amount", "0.5"], "are not those of the experiment's model"),
    (["small.yaml", "--amount", "1.0"], "--amount 1: must be a share from 0 to below 1"),
    (["small.yaml", "--pattern", "4:2"], "--pattern 4:2"),
    (["small.yaml", "--include", "nothing.*"], "'nothing.*' matches no tensor of the model"),
    (["small.yaml", "--set", "model={type: sklearn, estimator: sklearn.svm.SVC}"], "pruning takes torch models"),
    (["small.yaml", "--set", "evaluation.cv=3"], "leave out evaluation.cv"),
    (["small.yaml", "--set", "training=null"], "there is no training section"),
    (["small.yaml", "--set", "pruning=null"], "there is no pruning section"),
    (["small.yaml", "--set", "pruning.budget={nonzero: 10}", "--set", "pruning.amount=null"], "may not go"),
    (["small.yaml", "--set", "pruning.allocation=lamp", "--set", "pruning.importance=movement"], "allocation global"),
    (["absent.yaml"], "absent.yaml"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "text"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_clear_error(cli: Cli, file: Path, tmp_path: Path, arguments: list[str], text: str) -> None:
    torch.save({"a": torch.ones(3, 3), "b": torch.ones(2, 3)}, tmp_path / "m.pt")
    result = cli("prune", *arguments)
    assert result.code == 2, result.err
    assert text in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "m.pruned.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("section", ["structure: neurons, amount: 0.3", "amount: 0.5"], ids=["units", "weights"])
@pytest.mark.parametrize("model", ["model: {type: mlp, hidden: [7]}\n", ""], ids=["another", "none"])
def test_a_model_file_keeps_its_own_model(cli: Cli, file: Path, tmp_path: Path, section: str, model: str) -> None:
    """The experiment was written for another model, or names none: what is written has the layers of the file."""
    assert cli("train", file, "--out", tmp_path / "dense").code == 0
    other = tmp_path / "other.yaml"
    lines = [line for line in PRUNING.splitlines(keepends=True) if not line.startswith(("model:", "pruning:", "  "))]
    other.write_text("".join(lines) + model + f"pruning: {{{section}, recovery: {{epochs: 1}}}}\n")
    result = cli("prune", tmp_path / "dense/model.pt", "--experiment", other, "--out", tmp_path / "less.pt")
    assert result.code == 0, result.err
    pruned = checkpoints.load(tmp_path / "less.pt")
    assert len([weight for weight in pruned.model.parameters() if weight.ndim > 1]) == 3
    judged = cli("evaluate", tmp_path / "less.pt")
    assert judged.code == 0, judged.err


def test_weights_of_a_file_are_pruned_once(cli: Cli, file: Path, tmp_path: Path) -> None:
    save_file({"layers.0.weight": torch.ones(3, 3)}, tmp_path / "w.safetensors")
    result = cli("prune", tmp_path / "w.safetensors", "--experiment", file, "--set", "seeds=3")
    assert result.code == 2
    assert "seeds is 3, but a file's weights are pruned once" in result.err
    assert not list(tmp_path.glob("*pruned*"))
