"""What a run ran on: versions of what is installed, and the commit where there is a repository."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from modelopt_cli.results.environment import environment

IMPORTED = """\
import sys
from modelopt_cli.results.environment import environment
environment(0, "cpu")
print([name for name in ("torch", "sklearn", "pandas", "scipy") if name in sys.modules])
"""


def test_versions_are_those_installed() -> None:
    described = environment(3, "cuda:1")
    assert described["packages"]["torch"] == version("torch")
    assert (described["seed"], described["device"], described["command"]) == (3, "cuda:1", sys.argv)
    assert json.loads(json.dumps(described)) == described


@pytest.mark.slow
def test_asking_for_versions_imports_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_commit_and_whether_files_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment(0, "cpu")["git"] is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a.txt").write_text("a")
    for command in (["init", "-q"], ["add", "a.txt"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    described = environment(0, "cpu")["git"]
    assert len(described["commit"]) == 40
    assert described["dirty"] is False
    (tmp_path / "new.txt").write_text("untracked files are no change")
    assert environment(0, "cpu")["git"]["dirty"] is False
    (tmp_path / "a.txt").write_text("b")
    assert environment(0, "cpu")["git"]["dirty"] is True
