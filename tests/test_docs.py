"""The pages of docs/ say what the code does: tables are current, examples are valid, and every path is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from modelopt_cli.experiment.experiment import Experiment

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SPECS = re.findall(r"^\| `([\[{].*?)`", PAGE[PAGE.index("`space` maps") :], re.MULTILINE)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "scripts" / "bench" / "README.md"]
TOPS = ("modelopt_cli", "configs", "tests", "scripts", "docs", ".ci")
PACKAGES = tuple(folder.name for folder in (ROOT / "modelopt_cli").iterdir() if (folder / "__init__.py").exists())
# What a path may begin with: `samplers/tpe.py` on a page about tuning is one; `runs/digits/1` is a user's.
HOMES = [ROOT, ROOT / "docs", ROOT / "modelopt_cli", *(ROOT / "modelopt_cli" / name for name in PACKAGES)]
FOLDERS = {folder.name for home in HOMES for folder in home.iterdir() if folder.is_dir()} - {"runs"}
PATH = re.compile(r"(?<![\w./:-])(?:[\w.{},-]+/)+(?:[\w{},-]+\.(?:py|yaml|json|md|toml)\b)?")
OF_THE_HOUSE = {"architecture.md", "contributing.md", "decisions.md", "measurements.md"}
"""Pages about the code, where a bare `name.py` is one of its files."""


def paths(text: str) -> Iterator[str]:
    """Paths of the project that a page names, braces taken apart: `samplers/{tpe,grid}.py` is two."""
    for match in PATH.findall(text):
        if match.split("/")[0] in (*TOPS, *FOLDERS):
            braces = re.search(r"\{([^{}]*)\}", match)
            names = braces[1].split(",") if braces else [""]
            yield from (match.replace(braces[0], name) if braces else match for name in names)


def there(path: str) -> bool:
    return any((home / path).exists() for home in HOMES)


def test_the_tables_of_options_are_current() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "option_tables.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "renew them: .venv/bin/python scripts/option_tables.py"


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 2
    assert len(SPECS) >= 6


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_valid(tmp_path: Path, text: str) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(text)
    Experiment.load(path)


@pytest.mark.parametrize("text", SPECS)
def test_every_way_to_write_a_range_is_valid(text: str) -> None:
    from modelopt_cli import Study

    study = Study({"x": yaml.safe_load(text)}, sampler="random", objective="minimize loss")
    assert study.ask().params


def test_paths_are_found_in_text() -> None:
    text = "see `tuning/samplers/{tpe,grid}.py` and (docs/trust.md), runs/x/1/best.yaml and https://a.b/core/c.py."
    assert list(paths(text)) == ["tuning/samplers/tpe.py", "tuning/samplers/grid.py", "docs/trust.md"]
    assert there("tuning/samplers/tpe.py")
    assert not there("tuning/samplers/nothing.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [path for path in paths(text) if not there(path)]
    assert not missing, f"{page.name} names {missing}"


@pytest.mark.parametrize("name", sorted(OF_THE_HOUSE))
def test_every_file_that_a_page_about_the_code_names_is_there(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    text = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)  # worked examples name files to be written
    known = {path.name for top in TOPS for path in (ROOT / top).rglob("*.py")}
    missing = set(re.findall(r"(?<![\w/])_?[a-z]\w*\.py\b", text)) - known
    assert not missing, f"docs/{name} names {sorted(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", page.read_text(encoding="utf-8")):
        other = (page.parent / target) if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


@pytest.mark.slow
def test_the_worked_example_of_a_strategy_works(tmp_path: Path) -> None:
    """The sampler of docs/architecture.md, as another package's: its own test, and the contract of all samplers."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    sampler, test = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]
    (tmp_path / "halton.py").write_text(sampler)
    (tmp_path / "example.dist-info").mkdir()
    (tmp_path / "example.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
    entry_points = "[modelopt_cli.samplers]\nhalton = halton:Halton\n"
    (tmp_path / "example.dist-info" / "entry_points.txt").write_text(entry_points)
    imports = "import numpy as np\nfrom scipy.stats import qmc\nfrom modelopt_cli import Study\n"
    program = f"{imports}\n{test}\ntest_points_are_those_of_scipy()\nprint('done')\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    contract = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/tuning/samplers/test_contract.py",
        "-k",
        "halton",
    ]
    done = subprocess.run(
        [sys.executable, *contract], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
