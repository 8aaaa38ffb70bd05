"""The job script of docs/cluster.md, run with programs that pretend to be SLURM, Ray and modelopt."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE, until

SCRIPT = Path(__file__).parents[2] / "docs" / "ray.sbatch"

# Each writes a line of what it was called with; srun runs what it is given, as one task.
PROGRAMS = {
    "scontrol": 'printf "%s\\n" one two three',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "hostname": "echo fe80::1 10.0.0.7",
    "ray": 'case "$1" in start) exec sleep 3000 ;; esac',
    "python": 'cat > "$LOG.python"; echo "3 of 3 nodes have joined"',
    "modelopt": 'trap "exit 143" TERM; mkdir -p runs/x; touch runs/x/study.sqlite; '
    '[ -z "${WAITS:-}" ] || { sleep 3000 & wait; }; exit "${CODE:-0}"',
}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "log"
    for name, body in PROGRAMS.items():
        program = folder / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> "$LOG"\n{body}\n')
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    slurm = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "cluster[1-3]", "SLURM_CPUS_ON_NODE": "16"}
    return {**os.environ, **slurm, "SLURM_GPUS_ON_NODE": "4", "LOG": str(log), "PATH": f"{folder}:/usr/bin:/bin"}


def calls() -> list[str]:
    return Path("log").read_text().splitlines()


def test_it_parses() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    lines = SCRIPT.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(number < first for number, line in enumerate(lines) if line.startswith("#SBATCH")), "SLURM reads no more"


@pytest.mark.slow
def test_it_starts_ray_on_every_node_and_the_search_on_the_first(environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", SCRIPT, "it.yaml", "runs/x", "--quiet"], env=environment, capture_output=True, text=True, check=False
    )  # ray start, which blocks, is ended
    assert done.returncode == 0, done.stderr
    said = calls()
    port = 20000 + 123456 % 10000
    head = f"ray start --head --block --node-ip-address=10.0.0.7 --port={port} --include-dashboard=false"
    assert f"{head} --num-cpus=16 --num-gpus=4" in said
    assert f"ray start --block --address=10.0.0.7:{port} --num-cpus=16 --num-gpus=4" in said
    assert any(line.startswith("srun --nodes=2 --ntasks=2 --overlap --exclude=one ray start") for line in said)
    assert f"ray health-check --address 10.0.0.7:{port}" in said
    assert "modelopt tune it.yaml --out runs/x --quiet" in said
    compile(Path("log.python").read_text(), "joined", "exec")
    Path("log").unlink()
    again = subprocess.run(["bash", SCRIPT, "it.yaml", "runs/x"], env={**environment, "CODE": "3"}, check=False)
    assert again.returncode == 3, "the search's own"
    assert "modelopt tune it.yaml --out runs/x --resume" in calls()


@pytest.mark.slow
def test_it_hands_on_that_the_time_is_up(environment: dict[str, str]) -> None:
    job = subprocess.Popen(["bash", SCRIPT, "it.yaml", "runs/x"], env={**environment, "WAITS": "1"})
    until(Path("runs/x/study.sqlite").exists, "that the search has begun", job)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=PATIENCE) == 143


def test_it_says_how_it_is_used(environment: dict[str, str]) -> None:
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch ray.sbatch EXPERIMENT.yaml RUN_FOLDER")
