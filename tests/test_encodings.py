"""Text files are UTF-8 whatever the machine's locale: names in them may be in any language."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "modelopt_cli"


def unsaid(source: str) -> Iterator[int]:
    """Lines that read or write a text file in whatever encoding the locale has."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            text = node.func.attr in ("read_text", "write_text")
            if text and not any(keyword.arg == "encoding" for keyword in node.keywords):
                yield node.lineno


def test_an_encoding_that_is_not_said_is_seen() -> None:
    assert list(unsaid("path.read_text()\npath.read_text(encoding='utf-8')\npath.write_text(x)\n")) == [1, 3]


def test_every_text_file_says_its_encoding() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    lines = [f"{file.relative_to(PACKAGE)}:{line}" for file in files for line in unsaid(file.read_text("utf-8"))]
    assert lines == []
