"""docs/tutorials/your_own_script.md works as it is written, with every framework that is installed, and on SLURM."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support.pages import TUTORIALS, run_page, run_tutorial, shell
from tests.support.waiting import PATIENCE


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


FRAMEWORKS = [
    pytest.param("Any program", "script", id="script"),
    pytest.param("torchrun", "ddp", id="torchrun"),
    pytest.param("PyTorch Lightning", "light", id="lightning", marks=needs("lightning")),
    pytest.param("Hugging Face Trainer", "bert", id="huggingface", marks=needs("transformers", "accelerate")),
]
FEW = {"trials: 10": "trials: 3", "trials: 6": "trials: 2"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("part", "name"), FRAMEWORKS)
def test_your_own_script(part: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    run_tutorial("your_own_script", folder, FEW, part)
    run = folder / "runs" / name / "1"
    report = json.loads((run / "report.json").read_text())
    trials = [
        dict(zip(report["tables"]["trials"]["columns"], row, strict=True)) for row in report["tables"]["trials"]["rows"]
    ]
    assert {trial["state"] for trial in trials} <= {"completed", "stopped"}
    assert all(0 < trial["accuracy"] <= 1 for trial in trials)
    steps = yaml.safe_load((folder / f"{name}.yaml").read_text())["command"]["steps"]
    assert trials[0]["steps"] == steps, "the page says how many steps there are"
    kept = list((run / "trial_dirs").iterdir())
    assert [path.name for path in kept] == [str(report["best"]["number"])]
    assert any(file.is_file() for file in kept[0].rglob("*")), "the best trial's checkpoint is kept"
    if name == "ddp":
        assert report["best"]["metrics"]["processes"] == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_of_torchrun_that_is_ended_leaves_no_process(tmp_path: Path) -> None:
    """One of its processes sleeps, the other one waits for it; then the search is ended."""
    page, folder = TUTORIALS / "your_own_script.md", tmp_path / "work"
    run_page(page, folder, FEW, part="")  # the files alone
    script = (folder / "ddp.py").read_text()
    waits = "\nif rank == 0:\n    import time\n\n    time.sleep(3000)\n"
    opened = "rank, world = dist.get_rank(), dist.get_world_size()\n"
    assert opened in script
    note = 'open("rank-" + str(rank), "w").write(str(os.getpid()))\n'
    (folder / "ddp.py").write_text(script.replace(opened, opened + note + waits))
    command = ["modelopt", "tune", "ddp.yaml", "--quiet"]
    search = subprocess.Popen(command, cwd=folder, env=shell(folder), stderr=subprocess.PIPE, text=True)
    ranks = [folder / "rank-0", folder / "rank-1"]
    while not all(rank.exists() and rank.read_text() for rank in ranks):  # the test's own timeout ends this
        assert search.poll() is None
        time.sleep(0.1)
    search.send_signal(signal.SIGTERM)
    _, messages = search.communicate(timeout=PATIENCE)
    assert search.returncode == 143, messages
    pids = [int(rank.read_text()) for rank in ranks]
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slurm_array_and_a_task_that_is_preempted(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    page = TUTORIALS / "your_own_script.md"
    run_page(page, folder, FEW, part="")  # the files alone
    environment = {**shell(folder), "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "1"}
    task = subprocess.Popen(["bash", "array.slurm"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    begun = folder / "searches" / "2" / "logs" / "0.log"
    while not begun.exists():  # the test's own timeout ends this
        assert task.poll() is None
        time.sleep(0.1)
    task.send_signal(signal.SIGTERM)
    _, messages = task.communicate(timeout=PATIENCE)
    assert task.returncode == 143, messages
    run_tutorial("your_own_script", folder, FEW, "SLURM")
    reports = {number: json.loads((folder / "searches" / str(number) / "report.json").read_text()) for number in (1, 2)}
    assert {report["status"] for report in reports.values()} == {"completed"}
    assert [report["seed"] for report in reports.values()] == [1, 2]
    assert [len(report["tables"]["trials"]["rows"]) for report in reports.values()] == [3, 3]
