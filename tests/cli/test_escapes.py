"""Nothing that comes from outside steers the terminal, and nothing is shown at any length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.cli import Cli

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e[/bold]:smile:"
STEERING = [*map(chr, range(9)), *map(chr, range(11, 32)), *map(chr, range(0x7F, 0xA0)), "\u202e", "\u2066", "\u2028"]


def steers(text: str) -> set[str]:
    return set(text) & set(STEERING)


def test_an_experiment_file(cli: Cli, tmp_path: Path) -> None:
    Path("e.yaml").write_text('version: 1\n"\\e[31mRED\\e]0;TITLE\\a": 1\nname: "a\\u202eb"\nmodel: "\\x9bx"\n')
    done = cli("validate", "e.yaml")
    assert done.code == 2
    assert "\\x1b[31mRED\\x1b]0;TITLE\\x07" in done.err
    assert not steers(done.err)


@pytest.mark.slow
@pytest.mark.parametrize("section", ["model", "data", "training", "tuning", "name", "gates", "pruning"])
def test_a_long_value_is_cut(cli: Cli, section: str) -> None:
    Path("long.yaml").write_text(f"version: 1\n{section}: [{', '.join(map(str, range(10_000)))}]\n")
    done = cli("validate", "long.yaml")
    assert done.code == 2
    assert len(done.err) < 3_000


def test_arguments(cli: Cli) -> None:
    for words in (("validate", EVIL), (EVIL,), ("train", "x", f"--{EVIL}"), ("list", EVIL), ("clean", EVIL)):
        done = cli(*words)
        assert done.code == 2
        assert not steers(done.out + done.err), words


def test_names_of_tensors(cli: Cli) -> None:
    name = "\x1b[31m\x07\u202e[/b]:ok:"
    torch.save({f"{name}.weight": torch.randn(8, 8), "last.weight": torch.randn(4, 8)}, "evil.pt")
    for words in (("inspect", "evil.pt"), ("prune", "evil.pt", "--amount", "0.5", "--out", "out.pt")):
        done = cli(*words)
        assert done.code == 0, done.err
        assert "\\x1b[31m" in done.out
        assert not steers(done.out + done.err)


@pytest.mark.slow
def test_what_a_script_prints(cli: Cli) -> None:
    Path("s.py").write_text("import sys\nsys.exit('\\x1b[31mfailed\\x07')\n")
    Path("c.yaml").write_text(
        "version: 1\ncommand: {argv: [python, s.py]}\n"
        "tuning: {workflow: command, objective: minimize loss, trials: 1, space: {command.parameters.a: [1]}}\n"
    )
    done = cli("tune", "c.yaml", "--set", "command.parameters.a=1", "--set", "command.argv.1=s.py")
    again = cli("show", "c")
    for shown in (done, again):
        assert "\\x1b[31mfailed" in shown.out + shown.err
        assert not steers(shown.out + shown.err)
