"""Templates for what people have: a table, a script, a module, weights; each valid at once, and each works."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
import torch

from tests.support.cli import Cli


def table(path: Path) -> None:
    """Numbers, texts, truths and dates, with empty cells; the text decides the class."""
    draw = random.Random(0)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["age", "city", "member", "since", "target"])
        for number in range(120):
            city = draw.choice(["Oslo", "Rome", "Lima"])
            age = "" if number % 10 == 0 else round(draw.uniform(18, 80), 1)
            since = f"20{draw.randrange(10, 24)}-0{draw.randrange(1, 9)}-11"
            writer.writerow([age, city, draw.choice(["true", "false"]), since, "yes" if city == "Rome" else "no"])


def test_the_list_says_what_each_is_for_and_groups_them(cli: Cli) -> None:
    lines = cli("init").out.splitlines()
    heads = [line for line in lines if line and not line.startswith(" ")]
    assert heads[0] == "start from something of yours"
    own = lines[1 : lines.index(heads[1])]
    assert [line.split()[0] for line in own] == ["csv", "script", "module", "weights"]
    assert "modelopt init csv > experiment.yaml" in lines[-2]


@pytest.mark.parametrize("name", ["csv", "script", "module", "weights"])
def test_each_is_valid_and_says_what_to_type_next(cli: Cli, name: str) -> None:
    made = cli("init", name)
    assert (made.code, made.err.startswith("next: ")) == (0, True)
    Path("experiment.yaml").write_text(made.out)
    assert cli("validate", "experiment.yaml").code == 0
    assert "modelopt validate experiment.yaml; modelopt" in made.err


@pytest.mark.parametrize(("name", "command"), [("compress", "tune"), ("mnist_compress", "compress")])
def test_a_compression_is_searched_or_run_by_its_own_command(cli: Cli, name: str, command: str) -> None:
    said = cli("init", name).err
    assert f"; modelopt {command} experiment.yaml --dry-run" in said
    assert said.startswith("next: modelopt validate"), "it names no file of yours: that is a comment"


def test_nothing_is_overwritten_and_nothing_half_written(cli: Cli) -> None:
    Path("mine").mkdir()
    Path("mine/train.py").write_text("mine")
    refused = cli("init", "script", "--to", "mine")
    assert (refused.code, refused.out) == (2, "")
    assert "mine/train.py exists" in refused.err
    assert [path.name for path in Path("mine").iterdir()] == ["train.py"]
    assert Path("mine/train.py").read_text() == "mine"
    assert cli("init", "--to", "there").code == 2
    Path("file").write_text("")
    assert cli("init", "csv", "--to", "file").code == 6


@pytest.mark.slow
def test_csv_from_the_table_to_predictions(cli: Cli) -> None:
    Path("experiment.yaml").write_text(cli("init", "csv").out)
    table(Path("data.csv"))
    done = cli("tune", "experiment.yaml", "--trials", 2, "--set", "tuning.executor=serial")
    assert done.code == 0, done.err
    assert json.loads(Path("runs/my-table/1/report.json").read_text())["metrics"]["test.accuracy"] == 1
    assert len(cli("predict", "runs/my-table/1/model.pt", "data.csv").out.splitlines()) == 121


@pytest.mark.slow
def test_the_script_runs_once_and_in_a_search(cli: Cli) -> None:
    made = cli("init", "script", "--to", "s")
    assert made.out == "wrote s/experiment.yaml\nwrote s/train.py\n"
    done = cli("tune", "s/experiment.yaml", "--trials", 2, "--set", "command.parameters.lr=0.02", "--out", "o")
    assert done.code == 0, done.err
    assert json.loads(Path("o/report.json").read_text())["best"]["metrics"]["accuracy"] > 0.8


@pytest.mark.slow
def test_the_module_is_searched(cli: Cli) -> None:
    cli("init", "module", "--to", "m")
    options = ["--trials", 2, "--set", "tuning.executor=serial", "--set", "training.epochs=2", "--out", "o"]
    done = cli("tune", "m/experiment.yaml", *options)
    assert done.code == 0, done.err
    assert json.loads(Path("o/report.json").read_text())["metrics"]["test.accuracy"] > 0.2


@pytest.mark.slow
def test_a_folder_of_shards_is_pruned_without_code_and_judged_with_it(cli: Cli) -> None:
    from safetensors.torch import load_file, save_file

    cli("init", "weights", "--to", "w")
    torch.manual_seed(0)
    sizes = {"1": (64, 64), "4": (64, 64), "6": (64, 10)}
    state: dict[str, torch.Tensor] = {}
    for name, (inputs, outputs) in sizes.items():
        layer = torch.nn.Linear(inputs, outputs)
        state |= {f"{name}.weight": layer.weight.detach(), f"{name}.bias": layer.bias.detach()}
    Path("my-weights").mkdir()
    names = sorted(state)
    where = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: state[name] for name in names if where[name] == file}, Path("my-weights", file))
    index = {"metadata": {}, "weight_map": where}
    Path("my-weights/model.safetensors.index.json").write_text(json.dumps(index))
    bare = cli("prune", "my-weights", "--amount", 0.5, "--out", "pruned")
    assert bare.code == 0, bare.err
    pruned = {name: tensor for file in Path("pruned").glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert sorted(pruned) == names
    zeros = sum(int((tensor == 0).sum()) for name, tensor in pruned.items() if name.endswith("weight"))
    assert zeros == 64 * 64 * 2 / 2, "the last matrix is spared"
    judged = cli("prune", "my-weights", "--experiment", "w/experiment.yaml", "--out", "judged")
    assert judged.code == 0, judged.err
    assert "before," in judged.out
