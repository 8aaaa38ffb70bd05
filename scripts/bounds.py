"""The requirements that scripts/test_lowest installs: every package that pyproject.toml names, at an end of its range.

scripts/bounds.py lowest    each at its lower bound, e.g. typer==0.19
scripts/bounds.py newest    each without a bound
torch is at its pin in constraints.txt either way. Tools that only check the code (mypy, ruff, stubs) are left out.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
_CHECKERS = ("mypy", "ruff", "pandas-stubs", "types-PyYAML")


def requirements(which: str) -> list[str]:
    """One line a package, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    bounds: dict[str, str | None] = {}
    for line in named:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:>=([0-9.]+))?", line.partition(";")[0].strip())
        if match is None:
            raise SystemExit(f"pyproject.toml: {line!r} is no NAME or NAME>=VERSION, which this script reads")
        if match[1] not in _CHECKERS:
            bounds[match[1]] = match[2]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    lines = []
    for name, bound in sorted(bounds.items(), key=lambda item: item[0].lower()):
        if name == "torch":
            lines.append(f"torch=={pins['torch']}")
        else:
            lines.append(f"{name}=={bound}" if which == "lowest" and bound else name)
    return lines


if __name__ == "__main__":
    if sys.argv[1:] not in (["lowest"], ["newest"]):
        raise SystemExit(f"usage: {sys.argv[0]} lowest|newest")
    print("\n".join(requirements(sys.argv[1])))
