"""What --help says can be typed as it stands, and what was typed wrong gets one line that helps."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from modelopt_cli.cli.commands.init import templates
from modelopt_cli.cli.main import app
from tests.support.cli import Cli

PROGRAM: Any = typer.main.get_command(app)
COMMANDS = sorted(PROGRAM.commands)
OLD = typer.BadParameter.__module__.startswith("click.")
"""Typer over click itself: it writes TEXT beside an argument whose word is its name, whatever it is told."""


def examples(text: str) -> list[str]:
    """The lines below `Examples:`, which end the help."""
    return [line.strip() for line in text.partition(" Examples:\n")[2].splitlines() if line.strip()]


def parsed(line: str) -> Any:
    """The command's context, with values; raises the usage error of an option, a value or an argument that is wrong."""
    program, name, *words = shlex.split(re.split(r" [<>|] ", line)[0])
    assert program == "modelopt"
    return PROGRAM.commands[name].make_context(name, words)


@pytest.fixture(params=[80, 120])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    chosen: int = request.param
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_ends_with_examples_that_can_be_typed(cli: Cli, width: int, name: str) -> None:
    helped = cli(*([name] if name else []), "--help")
    lines = examples(helped.out)
    assert helped.code == 0
    assert 2 <= len(lines) <= 3
    for line in lines:
        parsed(line)
        if name:
            assert line.split()[1] == name
    widest = max(len(line) for line in helped.out.splitlines())
    assert widest <= width


@pytest.mark.parametrize(
    "line",
    ["modelopt tune", "modelopt tune a.yaml b.yaml", "modelopt tune a.yaml --epochs 3", "modelopt show a --trial x"],
)
def test_examples_that_cannot_be_typed_would_be_seen(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)missing|extra argument|no such option|integer|invalid"):
        parsed(line)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_has_words_for_values(cli: Cli, name: str) -> None:
    helped = cli(*([name] if name else []), "--help").out
    raw = r"<\w+|\{\w+\}|<[^>]*>" if OLD else r"<\w+|\{\w+\}|<[^>]*>|TEXT|INTEGER|BOOLEAN"
    assert not re.search(raw, helped.partition(" Examples:")[0])
    usage = re.sub(r"\s+", " ", helped).partition("Usage: modelopt ")[2]
    assert usage.startswith(f"{name} [OPTIONS]" if name else "[OPTIONS] COMMAND")
    for each in PROGRAM.commands[name].params if name else ():
        assert each.is_flag or each.metavar if each.param_type_name == "option" else each.metavar.isupper()


def test_commands_are_grouped(cli: Cli) -> None:
    text = cli("--help").out
    panels = re.findall(r"╭─ (.+?) ─+╮\n(.*?)╰", text, re.DOTALL)
    groups = {title: re.findall(r"^│ ([a-z]+) ", body, re.MULTILINE) for title, body in panels}
    assert groups.pop("Options") == []
    assert list(groups.values()) == [
        ["train", "tune", "prune", "distill", "compress", "pick"],
        ["runs", "show", "watch", "report", "plot", "compare", "inspect"],
        ["predict", "evaluate", "export"],
        ["init", "validate", "list", "schema"],
        ["replay", "clean"],
    ]
    assert sorted(name for names in groups.values() for name in names) == COMMANDS


def test_templates_of_examples_exist() -> None:
    words = [shlex.split(line) for line in examples(f" Examples:\n{PROGRAM.examples}")]
    words += [shlex.split(line) for line in PROGRAM.commands["init"].examples.splitlines()]
    named = {line[2] for line in words if line[1] == "init" and len(line) > 2}
    assert named
    assert named <= set(templates())


def test_without_a_command_the_help_is_shown(cli: Cli) -> None:
    shown = cli()
    assert shown.code in (0, 2)
    assert shown.out.startswith(cli("--help").out.rstrip())
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "there is no command 'trian'. Did you mean 'train'? See: modelopt --help"),
        (["\x1b[31mtrain"], r"there is no command '\x1b[31mtrain'. Did you mean 'train'? See: modelopt --help"),
        (["zzz"], "there is no command 'zzz'. See: modelopt --help"),
        (["--versoin"], "there is no option --versoin. Did you mean '--version'? See: modelopt --help"),
        (["tune", "a.yaml", "--trails", "3"],
         "there is no option --trails. Did you mean '--trials'? See: modelopt tune --help"),
        (["show"], "missing argument 'RUN'. See: modelopt show --help"),
        (["plot", "a", "--width"], "option --width requires an argument. See: modelopt plot --help"),
    ],
)  # fmt: skip
def test_what_was_typed_wrong_gets_one_line(cli: Cli, words: list[str], message: str) -> None:
    refused = cli(*words)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (["tune", "a.yaml", "--trials", "0"], "invalid value for --trials: "),
        (["tune", "a.yaml", "--trials", "many"], "invalid value for --trials: "),
        (["train", "a.yaml", "b.yaml"], "got unexpected extra argument"),
        (["prune", "a.pt", "--scope", "tensor"], "invalid value for --scope: 'tensor' is not one of 'layer', 'global'"),
    ],
)
def test_wrong_values_get_one_line(cli: Cli, words: list[str], about: str) -> None:
    refused = cli(*words)
    assert refused.code == 2
    assert refused.err.startswith(f"error: {about}")
    assert refused.err.endswith(f". See: modelopt {words[0]} --help\n")
    assert refused.err.count("\n") == 1


def test_a_wrong_option_is_a_document_for_programs(cli: Cli) -> None:
    refused = cli("train", "a.yaml", "--resmue", "--json")
    error = json.loads(refused.out)["error"]
    assert (refused.code, error["exit_code"], error["type"]) == (2, 2, "UsageError")
    assert "Did you mean '--resume'? See: modelopt train --help" in error["message"]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "old" / "1"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(
        json.dumps({"kind": "training", "workflow": "train", "name": "old", "status": "completed", "metrics": {}})
    )
    return folder


def test_clean_answered_with_no_removes_nothing(cli: Cli, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = cli("clean")
    assert asked.code == 0, asked.err
    assert asked.out.endswith("nothing was removed\n")
    assert finished.is_dir()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "\nremoved 1 run, freed " in cli("clean").out.replace("? [y/N]: ", "\n")
    assert not finished.exists()


def test_clean_without_anybody_to_ask_says_what_to_type(
    cli: Cli, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    asked = cli("clean")
    assert asked.code == 2
    assert "nothing was removed: nobody answers here; remove without being asked: --yes" in asked.err
    assert finished.is_dir()
