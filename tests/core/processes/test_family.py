"""What a run's own code left in a session of its own goes when the command is killed, whoever ran the code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modelopt_cli.core.processes.family import begin_watching, watched_family
from modelopt_cli.core.processes.watcher import VARIABLE, family
from tests.support.waiting import FOREVER, runs, until, until_ended

LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells other processes' environments"
)
MODEL = f"""\
import os
import subprocess
import sys
import time

import torch


def build():
    if os.fork() == 0:  # a daemon: twice forked, in a session of its own
        os.setsid()
        if os.fork() == 0:
            with open("daemon.new", "w") as file:
                file.write(str(os.getpid()))
            os.rename("daemon.new", "daemon")
            time.sleep({FOREVER})
        os._exit(0)
    own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({FOREVER})"], start_new_session=True)
    with open("own.new", "w") as file:
        file.write(str(own.pid))
    os.rename("own.new", "own")
    time.sleep({FOREVER})
    return torch.nn.Linear(4, 3)
"""


@LINUX
@pytest.mark.slow
def test_daemons_of_a_training_go_with_a_command_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    (tmp_path / "e.yaml").write_text(
        "version: 1\ndata: {type: iris}\nmodel: {type: python, target: net:build}\ntraining: {epochs: 1}\n"
    )
    command = [sys.executable, "-c", "from modelopt_cli.cli.main import main; main()", "train", "e.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        begun = [tmp_path / name for name in ("daemon", "own")]
        until(lambda: all(path.exists() for path in begun), "that both have begun", run)
        left = [int(path.read_text()) for path in begun]
        assert all(runs(process) for process in left)
        run.kill()
    until_ended(left)


@LINUX
def test_the_mark_is_on_what_is_started_meanwhile_alone() -> None:
    sleep = [sys.executable, "-c", f"import time; time.sleep({FOREVER})"]
    assert VARIABLE not in os.environ
    before = subprocess.Popen(sleep)
    begin_watching()
    assert VARIABLE not in os.environ, "outside nothing is watched"
    with watched_family():
        assert VARIABLE not in os.environ, "as long as no code of others runs"
        begin_watching()
        mark = os.environ[VARIABLE]
        inside = subprocess.Popen(sleep, start_new_session=True)
        until(lambda: inside.pid in family(mark), "that it is executed, and has its own environment")
        assert before.pid not in family(mark)
        assert os.getpid() not in family(mark)
    assert VARIABLE not in os.environ
    assert inside.poll() is None, "one that was not killed cleans up by itself"
    for process in (before, inside):
        process.send_signal(signal.SIGKILL)
        process.wait()
