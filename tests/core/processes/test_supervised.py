"""A supervised program ends as it ends by itself, and nothing of it is left, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelopt_cli.core.processes.supervised import Supervised, signal_name

PYTHON = [sys.executable, "-I", "-S", "-c"]
# A child in the same group, one in a session of its own, and one that has left its parent: a daemon.
FAMILY = """\
import os, sys, time, signal
def note(name):
    with open(sys.argv[1] + "/" + name + ".tmp", "w") as stream: stream.write(str(os.getpid()))
    os.rename(sys.argv[1] + "/" + name + ".tmp", sys.argv[1] + "/" + name)
if os.fork() == 0:
    note("child"); time.sleep(60); os._exit(0)
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        note("daemon"); time.sleep(60)
    os._exit(0)
note("main")
while len([name for name in os.listdir(sys.argv[1]) if "." not in name]) < 3: time.sleep(0.01)
"""
STAYS = FAMILY + "time.sleep(60)\n"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(folder: Path, count: int = 3) -> list[int]:
    deadline = time.monotonic() + 30
    while len(files := [path for path in folder.iterdir() if not path.suffix]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(path.read_text()) for path in files]


def ended(numbers: list[int], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, numbers)):
        if time.monotonic() > deadline:
            for number in filter(alive, numbers):
                os.kill(number, signal.SIGKILL)
            return False
        time.sleep(0.02)
    return True


def waited(program: Supervised) -> int:
    deadline = time.monotonic() + 30
    while program.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    program.end()
    return program.returncode


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 11)", -11),
        ("import os; os.kill(0, 15); import time; time.sleep(9)", -15),  # its own group, not its supervisor's
    ],
)
def test_its_end_is_told(text: str, code: int) -> None:
    assert waited(Supervised([*PYTHON, text], grace=2.0)) == code


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Supervised(["no-such-program"], grace=1.0)
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PermissionError):
        Supervised([str(tmp_path / "text")], grace=1.0)


def test_its_end_leaves_daemons_until_it_is_closed(tmp_path: Path) -> None:
    program = Supervised([*PYTHON, FAMILY, str(tmp_path)], grace=1.0)
    numbers = pids(tmp_path)
    while program.poll() is None:
        time.sleep(0.01)
    program.end()
    assert program.returncode == 0
    assert ended(numbers, 0.0)


def test_asked_to_end_nothing_is_left_even_of_one_that_is_suspended(tmp_path: Path) -> None:
    program = Supervised([*PYTHON, STAYS, str(tmp_path)], grace=1.0)
    numbers = pids(tmp_path)
    assert program.suspend()
    program.end()
    assert program.returncode == -signal.SIGTERM
    assert ended(numbers, 0.0)


@pytest.mark.skipif(sys.platform != "linux", reason="daemons are found on Linux only")
def test_when_the_parent_is_killed_nothing_is_left(tmp_path: Path) -> None:
    parent = (
        "import sys, time\nfrom modelopt_cli.core.processes.supervised import Supervised\n"
        f"program = Supervised({[*PYTHON, STAYS, str(tmp_path)]!r}, grace=30.0)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    numbers = pids(tmp_path)
    process.kill()
    process.wait()
    assert ended(numbers)


def test_signals_without_a_name() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(40) == "signal 40"
