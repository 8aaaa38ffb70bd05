"""What a run ran on: versions, machine, code. Packages are asked for their versions, never imported."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = (
    "modelopt-cli",
    "torch",
    "numpy",
    "scikit-learn",
    "scikit-optimize",
    "scipy",
    "pandas",
    "pydantic",
    "skops",
)


def environment(seed: int, device: str) -> dict[str, Any]:
    """Plain values for environment.json."""
    return {
        "time": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": seed,
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "git": _git(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit and cleanliness of the working folder's repository; None outside one."""
    try:
        commit = _ask_git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_ask_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _ask_git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()
