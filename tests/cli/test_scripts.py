"""What is kept of scripts: their logs, and the folder of the best; and one trial, looked at."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelopt_cli import load, train, tune
from modelopt_cli.tuning.search import search
from tests.support.cli import QUICK, Cli
from tests.support.waiting import TurnedClock, until

SCRIPT = """\
import json, os, pathlib, sys
x, folder = float(sys.argv[1]), pathlib.Path(sys.argv[2])
assert folder == pathlib.Path(os.environ["MODELOPT_TRIAL_DIR"]) and folder.is_absolute() and folder.is_dir()
(folder / "sub").mkdir()
(folder / "sub" / "weights.bin").write_text(str(x))
(folder / "sub").chmod(0o500)
print("to output", x)
print("\\x1b[31mred\\x1b[0m \\x07 to errors", file=sys.stderr)
print("token", os.environ.get("API_TOKEN"))
for step in range(1, 9):
    print(json.dumps({"step": step, "loss": abs(x - 0.6) / step, "size": x}))
if x > 0.8:
    sys.exit("x is too large")
"""
FILE = """\
version: 1
name: keep
command: {argv: [python, s.py, "{x}", "{trial_dir}", "${API_TOKEN:-none}"], parameters: {x: 0.1}}
tuning:
  workflow: command
  objective: minimize loss
  sampler: grid
  trials: 6
  space: {command.parameters.x: [0.0, 0.2, 0.5, 0.9, 0.3, 0.7]}
"""


@pytest.fixture
def keep() -> Path:
    Path("s.py").write_text(SCRIPT)
    Path("keep.yaml").write_text(FILE)
    return Path("runs/keep/1")


def logs(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "logs").iterdir())


def folders(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "trial_dirs").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "workers"), [("serial", 1), ("processes", 1), ("processes", 3)])
def test_logs_of_all_and_the_folder_of_the_best(
    cli: Cli, keep: Path, monkeypatch: pytest.MonkeyPatch, executor: str, workers: int
) -> None:
    monkeypatch.setenv("API_TOKEN", "sesame-open")
    done = cli("tune", "keep.yaml", "--set", f"tuning.executor={executor}", "--set", f"tuning.workers={workers}")
    assert done.code == 0
    report = json.loads((keep / "report.json").read_text())
    best = report["best"]["number"]
    assert report["best"]["params"] == {"command.parameters.x": 0.5}
    assert logs(keep) == [f"{number}.log" for number in range(6)]
    assert folders(keep) == [str(best)]
    assert report["artefacts"]["trial_dir"] == str((keep / "trial_dirs" / str(best)).absolute())
    assert (keep / "trial_dirs" / str(best) / "sub" / "weights.bin").read_text() == "0.5"
    assert f"  runs/keep/1/trial_dirs/{best}\n" in done.out, "as people type it"
    for row in report["tables"]["trials"]["rows"]:
        text = (keep / "logs" / f"{row[0]}.log").read_text()
        assert re.search(r"to output [0-9.]+\n(.*\n)*token \$\{API_TOKEN\}\n", text)
        assert text.count('"step"') == 8
        assert "to errors" in text
        assert ("x is too large" in text) == (row[1] == "failed")
    assert not any("sesame-open" in path.read_text(errors="replace") for path in keep.glob("*.*") if path.is_file())


@pytest.mark.slow
def test_one_trial_is_shown(cli: Cli, keep: Path) -> None:
    assert cli("tune", "keep.yaml", "-q", "--set", "tuning.executor=serial").code == 0
    failed = next(row["trial"] for row in json.loads((keep / "trials.json").read_text()) if row["state"] == "failed")
    shown = cli("show", "keep/1", "--trial", failed)
    assert shown.code == 0
    assert re.match(rf"trial {failed}  failed after [0-9.]+ s, step 8\n", shown.out)
    assert "reason: the script ended with exit code 1; it printed last: x is too large" in shown.out
    assert "command.parameters.x = 0.9" in shown.out
    assert "curve: 6 of 8 reports" in shown.out
    assert "│ red \\x07 to errors" in shown.out
    assert "\x1b" not in shown.out
    assert "\x07" not in shown.out
    assert "│ x is too large" in shown.out
    details = json.loads(cli("show", "keep", "--trial", failed, "--json").out)
    assert (details["state"], details["failure"], details["step"]) == ("failed", "error", 8)
    assert details["params"] == {"command.parameters.x": 0.9}
    assert details["log"]["lines"][-1] == "x is too large"
    assert details["trial_dir"] is None
    assert len(details["curve"]) == 8
    best = json.loads((keep / "report.json").read_text())["best"]["number"]
    shown = cli("show", "keep", "--trial", best)
    assert re.match(rf"trial {best}  completed after [0-9.]+ s, step 8 of 8  the best\n", shown.out)
    for number, what in ((6, "the trials 0 to 5"), (-1, "the trials 0 to 5")):
        refused = cli("show", "keep", "--trial", number)
        assert refused.code == 2
        assert f"--trial {number}: runs/keep/1 has no such trial; it has {what}" in refused.err


@pytest.mark.slow
def test_a_trial_of_a_model_is_shown_too(cli: Cli) -> None:
    Path("quick.yaml").write_text(QUICK)
    assert cli("tune", "quick.yaml", "-q", "--set", "tuning.trials=2").code == 0
    shown = cli("show", "quick", "--trial", 1)
    assert shown.code == 0
    assert "training.optimizer.lr = " in shown.out
    assert "curve: 3 reports" in shown.out
    assert "log" not in shown.out.replace("log_loss", "")
    assert json.loads(cli("show", "quick", "--trial", 1, "--json").out)["log"] is None
    assert cli("train", "quick.yaml", "-q").code == 0
    refused = cli("show", "quick/2", "--trial", 0)
    assert refused.code == 2
    assert "is no search, so it has no trials" in refused.err


@pytest.mark.slow
def test_a_trial_that_runs_is_shown(cli: Cli) -> None:
    Path("s.py").write_text(
        'import time\nprint(\'{"step": 1, "loss": 0.5}\')\nprint("at work\\r10%\\r20%")\ntime.sleep(3000)\n'
    )
    Path("slow.yaml").write_text(FILE.replace("keep", "slow"))
    command = [sys.executable, "-c", "from modelopt_cli.cli.main import main; main()", "tune", "slow.yaml", "-q"]
    search = subprocess.Popen(command)

    def is_shown() -> bool:
        shown = cli("show", "slow", "--trial", 0)
        return shown.code == 0 and "20%" in shown.out and "step 1" in shown.out

    try:
        until(is_shown, "that it is shown", search)
        shown = cli("show", "slow", "--trial", 0)
        assert re.match(r"trial 0  running for [0-9.]+ s, step 1", shown.out)
        assert "metrics so far\nloss 0.5" in shown.out
        assert "│ 20%" in shown.out
        assert "10%" not in shown.out
    finally:
        search.terminate()
        search.wait()
    shown = cli("show", "slow", "--trial", 0)
    assert re.match(r"trial 0  interrupted", shown.out)
    assert "│ 20%" in shown.out


@pytest.mark.slow
def test_a_resumed_trial_goes_on_in_its_folder_and_its_log(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("s.py").write_text(
        "import os, pathlib, time\n"
        "mark = pathlib.Path(os.environ['MODELOPT_TRIAL_DIR'], 'mark')\n"
        "print('resumed' if mark.exists() else 'begun', flush=True)\n"
        "if not mark.exists():\n"
        "    mark.touch()\n"
        "    time.sleep(3000)\n"
        "print('{\"loss\": 1.0}')\n"
    )
    Path("e.yaml").write_text(FILE.replace("keep", "again"))
    short = ("--set", "tuning.trials=1")
    run = Path("runs/again/1")
    with monkeypatch.context() as patches:
        patches.setattr(search, "time", TurnedClock((run / "trial_dirs" / "0" / "mark").exists))
        cli("tune", "e.yaml", "-q", *short, "--set", "tuning.timeout=240")
    assert folders(run) == ["0"]
    assert cli("tune", "e.yaml", "-q", *short, "--set", "tuning.timeout=3000", "--resume").code == 0
    text = (run / "logs" / "0.log").read_text()
    assert re.fullmatch(r'begun\n\n--- modelopt: the trial was begun again, .* ---\nresumed\n\{"loss": 1.0\}\n', text)
    assert folders(run) == ["0"]


@pytest.mark.slow
def test_a_paused_script_that_restarts_goes_on_from_its_own_checkpoint(cli: Cli) -> None:
    Path("s.py").write_text(
        "import json, os, pathlib, sys, time\n"
        "mark = pathlib.Path(os.environ['MODELOPT_TRIAL_DIR'], 'step')\n"
        "first = int(mark.read_text()) + 1 if mark.exists() else 1\n"
        "for step in range(min(first, 9), 10):  # one that had ended before it was paused says its last again\n"
        "    print('computes', step)\n"
        "    mark.write_text(str(step))\n"
        "    print(json.dumps({'step': step, 'loss': float(sys.argv[1]) / step}), flush=True)\n"
        "    time.sleep(0.05)\n"
    )
    Path("e.yaml").write_text(FILE.replace("keep", "sh"))
    changes = (
        "command.pause=restart",
        "command.steps=9",
        "tuning.sampler=random",
        "tuning.scheduler=successive_halving",
    )
    done = cli("tune", "e.yaml", "-q", *(word for change in changes for word in ("--set", change)))
    assert done.code == 0, done.err
    run = Path("runs/sh/1")
    texts = [path.read_text() for path in (run / "logs").iterdir()]
    assert any("begun again" in text for text in texts)
    best = json.loads((run / "report.json").read_text())["best"]["number"]
    computed = re.findall(r"computes (\d+)", (run / "logs" / f"{best}.log").read_text())
    # The step that it was killed in is made twice.
    assert list(dict.fromkeys(computed)) == [str(step) for step in range(1, 10)]
    assert computed == sorted(computed)
    assert folders(run) == [str(best)]


@pytest.mark.slow
def test_the_folders_of_the_front_are_kept(cli: Cli, keep: Path) -> None:
    text = FILE.replace("minimize loss", "[minimize loss, minimize size]")
    Path("keep.yaml").write_text(text)
    assert cli("tune", "keep.yaml", "-q").code == 0
    front = json.loads((keep / "report.json").read_text())["details"]["front"]
    assert len(front) > 1
    assert folders(keep) == sorted(map(str, front))


@pytest.mark.slow
def test_a_script_that_leaves_nothing_has_no_folder(cli: Cli) -> None:
    Path("s.py").write_text("print('{\"loss\": 1.0}')\n")
    Path("e.yaml").write_text(FILE.replace("keep", "none"))
    assert cli("tune", "e.yaml", "-q").code == 0
    assert not Path("runs/none/1/trial_dirs").exists()
    assert "trial_dir" not in json.loads(Path("runs/none/1/report.json").read_text())["artefacts"]


@pytest.mark.slow
def test_one_run_of_a_script_keeps_both(cli: Cli, keep: Path) -> None:
    done = cli("train", "keep.yaml", "--set", "tuning=null")
    assert done.code == 0
    artefacts = json.loads((keep / "report.json").read_text())["artefacts"]
    assert artefacts["log"] == str((keep / "logs" / "0.log").absolute())
    assert Path(artefacts["trial_dir"], "sub", "weights.bin").read_text() == "0.1"
    assert "  runs/keep/1/logs/0.log\n" in done.out, "as people type it"
    failing = cli("train", "keep.yaml", "-q", "--set", "command.parameters.x=0.9")
    assert failing.code == 1
    assert "x is too large" in Path("runs/keep/2/logs/0.log").read_text()


@pytest.mark.slow
def test_in_memory_nothing_is_left(cli: Cli, keep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = sorted(tmp_path.iterdir())
    report = tune(load("keep.yaml"))
    assert report.best is not None
    assert "trial_dir" not in report.artefacts
    assert train(load("keep.yaml", ["tuning=null"])).metrics["size"] == 0.1
    assert sorted(tmp_path.iterdir()) == before
    assert not any(scratch.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logs", "trial_dirs"])
def test_where_they_cannot_be_kept_is_exit_6(cli: Cli, keep: Path, name: str) -> None:
    assert cli("tune", "keep.yaml", "-q", "--set", "tuning.trials=1").code == 0
    for path in (keep / name).rglob("*"):
        path.chmod(0o700)
    subprocess.run(["rm", "-r", keep / name], check=True)
    (keep / name).write_text("in the way")
    done = cli("tune", "keep.yaml", "-q", "--resume", "--set", "tuning.trials=2")
    assert done.code == 6
    assert f"{name} cannot be made (File exists)" in done.err


@pytest.mark.slow
def test_a_failed_search_says_why_first(cli: Cli) -> None:
    Path("s.py").write_text("import sys\nsys.exit('odd' if float(sys.argv[1]) < 0.4 else 'high')\n")
    Path("e.yaml").write_text(FILE.replace("keep", "bad"))
    done = cli("tune", "e.yaml", "-q")
    assert done.code == 4
    assert "What each script wrote is in" in done.err
    assert str(Path("runs/bad/1/logs")) in done.err
    assert not Path("runs/bad/1/trial_dirs").exists()
    shown = cli("show", "bad").out
    assert shown.startswith("failed every trial failed (6 of 6)")
    assert re.search(r"6 of 6 trials failed\n  3 times \(trials .*\): .*\n  3 times \(trials .*\): ", shown)
    assert re.search(r"modelopt show runs/bad/1 --trial \d\n", shown)
    assert cli("tune", "e.yaml", "-q", "--set", "tuning.max_failures=2").code == 4
    assert "failed 2 trials failed in a row (tuning.max_failures)" in cli("show", "bad/2").out
