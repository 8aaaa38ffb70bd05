"""The command line, called as a user would, in this process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import QUICK, Cli, Result


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cli]:
    """Runs `modelopt ARGS...` in an empty folder; gives exit code, standard output and standard error."""
    from modelopt_cli.cli.guard import guarded
    from modelopt_cli.cli.main import app

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):  # where our own tests run
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object) -> Result:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr("sys.argv", ["modelopt", *words])
        capsys.readouterr()
        code = guarded(lambda: app(words, prog_name="modelopt", standalone_mode=False), as_json="--json" in words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK)
    return path
