"""Importing targets: what is found, and how each mistake reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.imports import check_target, describe_user_error, load_target


@pytest.fixture(autouse=True)
def _clean_path() -> Iterator[None]:
    path = list(sys.path)
    modules = set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("userpart"):
            del sys.modules[name]


def test_finds_an_attribute_in_the_folder_and_in_installed_packages(tmp_path: Path) -> None:
    (tmp_path / "userpart_a.py").write_text("class Holder:\n    value = 3\n")
    assert load_target("userpart_a:Holder.value", str(tmp_path)) == 3
    assert load_target("math:sqrt")(9) == 3


def test_a_module_of_the_same_name_in_another_folder_is_loaded_anew(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "userpart_b.py").write_text(f"value = {name!r}\n")
    assert load_target("userpart_b:value", str(tmp_path / "one")) == "one"
    assert load_target("userpart_b:value", str(tmp_path / "two")) == "two"


@pytest.mark.parametrize("target", ["", "a", "a.b", "a:", ":b", "a.py:b", "a/b:c", "a:b:c", "a b:c"])
def test_refuses_what_is_no_target(target: str) -> None:
    with pytest.raises(ValueError, match="is no target"):
        check_target(target)
    with pytest.raises(UsageError, match="is no target"):
        load_target(target)


def test_names_the_nearest_module_and_attribute(tmp_path: Path) -> None:
    (tmp_path / "userpart_models.py").write_text("def build():\n    return 1\n")
    with pytest.raises(UsageError, match="Did you mean 'userpart_models'"):
        load_target("userpart_model:build", str(tmp_path))
    with pytest.raises(UsageError, match=r"userpart_models\.py.*Did you mean 'build'"):
        load_target("userpart_models:biuld", str(tmp_path))
    with pytest.raises(UsageError, match=r"Did you mean 'a\.b:c'"):
        load_target("a.b.c")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1\ny = 1 / 0\n", r"userpart_c\.py:2: ZeroDivisionError"),
        ("def f(:\n", r"userpart_c\.py:1: SyntaxError"),
        ("import userpart_missing\n", r"userpart_c\.py:1: ModuleNotFoundError: No module named 'userpart_missing'"),
        ("raise SystemExit(3)\n", r"userpart_c\.py:1: SystemExit: 3"),
    ],
)
def test_errors_in_the_module_name_its_line(tmp_path: Path, code: str, expected: str) -> None:
    (tmp_path / "userpart_c.py").write_text(code)
    with pytest.raises(UsageError, match=expected):
        load_target("userpart_c:f", str(tmp_path))


def test_describe_user_error_skips_library_frames(tmp_path: Path) -> None:
    (tmp_path / "userpart_d.py").write_text("import json\ndef f():\n    return json.loads('{')\n")
    function = load_target("userpart_d:f", str(tmp_path))
    with pytest.raises(ValueError) as caught:
        function()
    assert "userpart_d.py:3: JSONDecodeError" in describe_user_error(caught.value)
