"""A supervised program ends as it ends by itself, and nothing of it is left, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelopt_cli.core.processes.supervised import Supervised, signal_name
from tests.support.waiting import FOREVER, PATIENCE, runs, until, until_ended

PYTHON = [sys.executable, "-I", "-S", "-c"]
# A child in the same group, one in a session of its own, and one that has left its parent: a daemon.
FAMILY = f"""\
import os, sys, time, signal
FOREVER = {FOREVER}
def note(name):
    with open(sys.argv[1] + "/" + name + ".tmp", "w") as stream: stream.write(str(os.getpid()))
    os.rename(sys.argv[1] + "/" + name + ".tmp", sys.argv[1] + "/" + name)
if os.fork() == 0:
    note("child"); time.sleep(FOREVER); os._exit(0)
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        note("daemon"); time.sleep(FOREVER)
    os._exit(0)
note("main")
while len([name for name in os.listdir(sys.argv[1]) if "." not in name]) < 3: time.sleep(0.01)
"""
STAYS = FAMILY + "time.sleep(FOREVER)\n"


def pids(folder: Path, count: int = 3) -> list[int]:
    names = lambda: [path for path in folder.iterdir() if not path.suffix]  # noqa: E731
    until(lambda: len(names()) == count, "that they have begun")
    return [int(path.read_text()) for path in names()]


def assert_none_is_left(numbers: list[int]) -> None:
    """Now, not soon."""
    left = list(filter(runs, numbers))
    for number in left:
        os.kill(number, signal.SIGKILL)
    assert not left


def waited(program: Supervised) -> int:
    until(lambda: program.poll() is not None, "its end")
    program.end()
    return program.returncode


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 11)", -11),
        ("import os; os.kill(0, 15); import time; time.sleep(9999)", -15),  # its own group, not its supervisor's
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
    assert waited(program) == 0
    assert_none_is_left(numbers)


def test_asked_to_end_nothing_is_left_even_of_one_that_is_suspended(tmp_path: Path) -> None:
    program = Supervised([*PYTHON, STAYS, str(tmp_path)], grace=PATIENCE)
    numbers = pids(tmp_path)
    assert program.suspend()
    program.end()
    assert program.returncode == -signal.SIGTERM
    assert_none_is_left(numbers)


@pytest.mark.skipif(sys.platform != "linux", reason="daemons are found on Linux only")
def test_when_the_parent_is_killed_nothing_is_left(tmp_path: Path) -> None:
    parent = (
        "import sys, time\nfrom modelopt_cli.core.processes.supervised import Supervised\n"
        f"program = Supervised({[*PYTHON, STAYS, str(tmp_path)]!r}, grace={FOREVER})\ntime.sleep({FOREVER})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    numbers = pids(tmp_path)
    process.kill()
    process.wait()
    until_ended(numbers)


def test_signals_without_a_name() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(40) == "signal 40"
