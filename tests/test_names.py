"""Local names say what they hold: words that fit any value are not used for one (docs/architecture.md, glossary)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for top in ("modelopt_cli", "tests", "scripts") for path in (ROOT / top).rglob("*.py"))
EMPTY = {"found", "gone", "told", "moment", "place"}
# Where `place` is a term: a position in an experiment file, or the slice of a tensor that belongs to a group of units.
PLACES = (
    *("modelopt_cli/experiment", "modelopt_cli/models/graph", "modelopt_cli/pruning/units"),
    *("modelopt_cli/workflows/inspect", "tests/models/graph", "tests/pruning/units"),
)


def locals_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable and parameter that a file binds; keys of saved files (TypedDicts) are none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    fields = {
        id(item.target)
        for kind in ast.walk(tree)
        if isinstance(kind, ast.ClassDef)
        for item in kind.body
        if isinstance(item, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def test_no_variable_is_called_by_an_empty_word() -> None:
    wrong = []
    for path in FILES:
        shown = path.relative_to(ROOT).as_posix()
        allowed = {"place"} if shown.startswith(PLACES) else set()
        wrong += [f"{shown}:{line}: {name}" for line, name in locals_of(path) if name in EMPTY - allowed]
    assert not wrong, "say what it holds:\n" + "\n".join(wrong)


@pytest.mark.parametrize("word", sorted(EMPTY))
def test_each_of_them_is_seen(word: str, tmp_path: Path) -> None:
    (tmp_path / "it.py").write_text(f"def f({word}):\n    for {word} in {word}: {word} = 1\n")
    assert {line for line, name in locals_of(tmp_path / "it.py") if name == word} == {1, 2}
