"""Ray by the command line: the search's process killed and interrupted, what is left then, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.ray_cluster import Nodes
from tests.support.waiting import PATIENCE, until

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [  # Ray 2.49 leaves files open
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# From the fourth trial on they wait in their midst as long as `hold` lies beside them: the search is sure to be under
# way when it is killed.
SCRIPT = """\
import json, os, sys, time
x = float(sys.argv[1])
number = int(os.path.basename(os.environ["MODELOPT_TRIAL_DIR"]))
for step in range(1, 5):
    while number >= 3 and step == 2 and os.path.exists("hold"):
        time.sleep(0.05)
    print(json.dumps({"step": step, "loss": (x - 0.3) ** 2 + 1 / step}), flush=True)
print("a note", x)
"""
FILE = """\
name: clustered
command: {argv: [python, program.py, "{x}"], parameters: {x: 0.5}}
tuning:
  workflow: command
  objective: minimize loss
  sampler: random
  trials: 6
  executor: {type: ray, workers: 2, resources: {cpu: 0.5}}
  space: {command.parameters.x: {float: [0.0, 1.0]}}
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    cluster = Nodes()
    yield cluster
    cluster.close()


def started(*more: str, files: bool = True) -> subprocess.Popen[str]:
    if files:
        Path("program.py").write_text(SCRIPT)
        Path("it.yaml").write_text(FILE)
    program = "from modelopt_cli.cli.main import main; main()"
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            program,
            "tune",
            "it.yaml",
            "--out",
            "run",
            *more,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def events(kind: str) -> int:
    try:
        with closing(sqlite3.connect("file:run/study.sqlite?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM events WHERE kind = ?", (kind,)).fetchone()[0])
    except sqlite3.Error:  # not there yet
        return 0


def wait_until_told(process: subprocess.Popen[str], trials: int) -> None:
    until(lambda: events("told") >= trials, f"{trials} trials have ended", process)


@pytest.mark.slow
def test_killed_it_leaves_nothing_on_the_cluster_and_goes_on(cli: Cli, nodes: Nodes) -> None:
    nodes.only(1)
    address = ("--set", f"tuning.executor.address={nodes.address}")
    Path("hold").touch()
    process = started(*address)
    wait_until_told(process, 3)
    assert nodes.processes()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not nodes.processes(), "that nothing of it is left on the cluster")
    Path("hold").unlink()
    resumed = started(*address, "--resume", "--json")
    out, err = resumed.communicate(timeout=PATIENCE)
    assert resumed.returncode == 0, err
    report = json.loads(out)
    assert report["status"] == "completed"
    assert "trial 0" not in err, "what had ended is not run again"
    assert events("told") == 6, "each trial once"
    assert "a note" in Path("run/logs/5.log").read_text()
    until(lambda: not nodes.processes(), "that nothing is left on the cluster")
    replayed = cli("replay", "run")
    assert replayed.code == 0, replayed.out + replayed.err


@pytest.mark.slow
def test_a_machine_that_sees_no_files_of_ours(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Script and data are sent there, logs and folders come back, and nothing is left."""
    monkeypatch.chdir(tmp_path)
    writes = "import os\nopen(os.environ['MODELOPT_TRIAL_DIR'] + '/own', 'w').write('it')\n"
    Path("program.py").write_text(SCRIPT.replace("- 0.3", "- float(open('data.txt').read())") + writes)
    Path("data.txt").write_text("0.3")
    Path("it.yaml").write_text(FILE.replace("trials: 6", "trials: 3"))
    here = Path.cwd()
    nodes.only(0)
    try:
        blind = nodes.add_blind(here)
    except OSError as error:
        pytest.skip(str(error))
    try:
        process = started("--set", f"tuning.executor.address={nodes.address}", files=False)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        seen = subprocess.run(
            ["nsenter", "-t", str(blind.pid), "-m", "find", here], capture_output=True, text=True, check=True
        )
    finally:
        blind.terminate()
        blind.wait()
    assert seen.stdout.splitlines() == [str(here)], "nothing is left there"
    assert [(Path("run/logs") / f"{number}.log").read_text().count("\n") for number in range(3)] == [5, 5, 5]
    best = json.loads(Path("run/report.json").read_text())["best"]["number"]
    assert Path(f"run/trial_dirs/{best}/own").read_text() == "it"
    assert not list(Path("run").rglob(".seen-*"))


@pytest.mark.slow
def test_ctrl_c_ends_a_cluster_that_was_started_for_the_search(cli: Cli) -> None:
    folders = set(Path("/tmp").glob("modelopt-ray-*"))
    Path("hold").touch()
    process = started()
    wait_until_told(process, 1)
    (own,) = set(Path("/tmp").glob("modelopt-ray-*")) - folders
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: whatever is of the group hears it
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not own.exists()
    named = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(own) not in named, "no process of that cluster is left"
