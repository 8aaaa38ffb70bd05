"""What the benchmarks share: options, child processes whose time is measured, interleaved repeats, tables.

Contenders take turns (a, b, c, a, b, c, ...), so that a slow spell of a shared machine meets all of them alike. What
counts is the median; the ratio of two contenders is the median of the ratios of their turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CONFIGS = ROOT / "configs"
sys.path.insert(0, str(ROOT))  # for tests.support.zoo, the networks that tests and benchmarks share
PYTHON = sys.executable
MODELOPT = str(Path(sys.executable).parent / "modelopt")
PEERS = Path(os.environ.get("MODELOPT_PEERS") or ROOT / ".venv-peers") / "bin" / "python"
HOW_TO_GET_PEERS = "Optuna is left out: there is no .venv-peers; scripts/bench/README.md says how to make it."
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}  # modules are compiled once, as those of an installed program are
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Run:
    """What a child process cost, and what it printed. CPU time includes that of its own children."""

    wall: float
    cpu: float
    output: str

    def json(self) -> Any:
        """The last line that it printed, decoded."""
        return json.loads(self.output.strip().splitlines()[-1])


def options(description: str | None, repeats: int) -> argparse.Namespace:
    """`--repeats` and `--out`."""
    summary = (description or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("--repeats", type=int, default=repeats, help=f"turns for each contender; default {repeats}")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON; default: print the table only")
    return parser.parse_args()


def run(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Run:
    """Run a command to its end. Raises CalledProcessError with what it printed when it fails."""
    start = time.perf_counter()
    command = [str(part) for part in argv]
    environment = {**os.environ, **BYTECODE, **(env or {})}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, env=environment
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Run(wall, usage.ru_utime + usage.ru_stime, output)


def peers_available() -> bool:
    """Whether the peers can be run; says how to install them where not."""
    if not PEERS.exists():
        print(HOW_TO_GET_PEERS, file=sys.stderr)
    return PEERS.exists()


def interleave(contenders: Mapping[str, Callable[[], float]], repeats: int, *, warm: bool = False) -> dict[str, Any]:
    """Figures of each contender, one a turn. `warm`: a first turn (file caches, bytecode) that does not count."""
    seconds_of: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + warm):
        for name, measure in contenders.items():
            value = measure()
            if turn >= warm:
                seconds_of[name].append(value)
    return seconds_of


def ratio(figures: Mapping[str, Sequence[float]], ours: str, theirs: str) -> float:
    """The median over turns of `ours` / `theirs`."""
    return median(a / b for a, b in zip(figures[ours], figures[theirs], strict=True))


def rows(figures: Mapping[str, Sequence[float]], ours: str, unit: float = 1.0) -> list[list[str]]:
    """For each contender: name, median, least, most (in units of `unit` seconds), and ours / it."""
    return [
        [name, *(f"{value / unit:.4g}" for value in (median(times), min(times), max(times))), f"{share:.3f}"]
        for name, times in figures.items()
        for share in [ratio(figures, ours, name)]
    ]


def show(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def verdict(what: str, value: float, goal: float, unit: str = "x") -> dict[str, Any]:
    """Print whether a goal (at most `goal`) is met, and return it for the JSON file."""
    met = value <= goal
    print(f"{what}: {value:.4g}{unit} (goal at most {goal:g}{unit}): {'met' if met else 'MISSED'}")
    return {"what": what, "value": value, "goal": goal, "met": met}


def write(out: Path | None, name: str, figures: Any, goals: Sequence[Any] = (), **more: Any) -> None:
    """Write everything measured to `out`, with the machine it was measured on."""
    if out is None:
        return
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"benchmark": name, "date": date, "machine": machine, "goals": list(goals), "figures": figures, **more}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
