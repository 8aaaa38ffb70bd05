"""Scripts as runs: what they print, how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import selectors
import sys
from pathlib import Path

import pytest

from modelopt_cli.core.errors import TrialError, UsageError
from modelopt_cli.workflows.runs import script as script_module
from modelopt_cli.workflows.runs.script import ScriptRun, program
from modelopt_cli.workflows.runs.script_lines import metrics_of
from tests.support.waiting import FOREVER, until, until_ended


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "script.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def drive(run: ScriptRun, until: int = sys.maxsize) -> list[tuple[int, dict[str, float]]]:
    reports: list[tuple[int, dict[str, float]]] = []
    while run.step < min(until, run.total):
        reports += [(step, dict(metrics)) for step, metrics in run.advance(until)]
    return reports


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"step": 3, "loss": 0.5}', (3, {"loss": 0.5})),
        ('  {"loss": 1}', (None, {"loss": 1.0})),
        ('{"step": 3}', None),
        ('{"note": "text", "ok": true}', None),
        ("loss: 0.5", None),
        ("[1, 2]", None),
        ('{"loss": 0.5', None),
        ('{"step": 1.5, "loss": 2}', (None, {"loss": 2.0})),
    ],
)
def test_metrics_of_a_line(line: str, expected: object) -> None:
    assert metrics_of(line.encode()) == expected


def test_python_is_this_python() -> None:
    assert program(["python", "x.py"]) == [sys.executable, "x.py"]
    assert program(["./python", "python"]) == ["./python", "python"]


def test_reports_and_final_metrics(tmp_path: Path) -> None:
    text = (
        "import json\nfor s in (1, 2, 3):\n    print('epoch', s)\n    print(json.dumps({'step': s, 'loss': 1 / s}))\n"
    )
    run = ScriptRun(script(tmp_path, text + "print(json.dumps({'size': 7}))\n"), folder=str(tmp_path), seed=1)
    assert drive(run, until=2) == [(1, {"loss": 1.0}), (2, {"loss": 0.5})]
    assert drive(run) == [(3, {"loss": 1 / 3})]
    assert run.metrics() == {"loss": 1 / 3, "size": 7.0}
    run.close()


def test_what_it_wrote_beyond_the_reports_taken_counts_for_nothing(tmp_path: Path) -> None:
    """A script runs ahead: stopped at a step it is the same, whether it was killed at once or had already ended."""
    text = (
        "import json\nprint(json.dumps({'parameters': 5}))\n"
        "for s in (1, 2, 3):\n    print(json.dumps({'step': s, 'loss': 1 / s}))\n    print(json.dumps({'beside': s}))\n"
        "open('ended', 'w').close()\n"
    )
    run = ScriptRun(script(tmp_path, text), folder=str(tmp_path), seed=1)
    until((tmp_path / "ended").exists, "that it has written all")
    assert run.metrics() == {}
    assert drive(run, until=1) == [(1, {"loss": 1.0})]
    assert run.metrics() == {"parameters": 5.0, "loss": 1.0}
    assert drive(run, until=2) == [(2, {"loss": 0.5})]
    assert run.metrics() == {"parameters": 5.0, "loss": 0.5, "beside": 1.0}
    drive(run)
    assert run.metrics() == {"parameters": 5.0, "loss": 1 / 3, "beside": 3.0}
    run.close()


def test_metrics_file_and_seed(tmp_path: Path) -> None:
    text = (
        "import json, os\n"
        "line = json.dumps({'seed': int(os.environ['MODELOPT_SEED'])})\n"
        "open(os.environ['MODELOPT_METRICS'], 'a').write(line)\n"
    )
    run = ScriptRun(script(tmp_path, text), folder=str(tmp_path), seed=11)
    drive(run)
    assert run.metrics() == {"seed": 11.0}
    run.close()


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        (
            "import sys; print('bad thing', file=sys.stderr); sys.exit(3)",
            "error",
            "exit code 3; it printed last: bad thing",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crash", "SIGKILL"),
        ("print('hello')", "error", "reported no metrics"),
    ],
)
def test_failures_are_classified(tmp_path: Path, text: str, kind: str, part: str) -> None:
    run = ScriptRun(script(tmp_path, text), folder=str(tmp_path), seed=0)
    with pytest.raises(TrialError, match=part) as caught:
        drive(run)
    assert caught.value.kind == kind
    run.close()


def test_close_ends_the_whole_group(tmp_path: Path) -> None:
    text = (
        "import json, os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep({FOREVER})'])\n"
        "print(json.dumps({'step': 1, 'child': child.pid}))\n"
        f"time.sleep({FOREVER})\n"
    )
    run = ScriptRun(script(tmp_path, text), folder=str(tmp_path), seed=0)
    ((_, metrics),) = drive(run, until=1)
    run.close()
    until_ended([int(metrics["child"])])


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot start 'no-such-program'"):
        ScriptRun(["no-such-program"], folder=str(tmp_path), seed=0)


def test_an_error_never_stands_before_what_was_printed_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (from_output, output), (from_errors, errors) = os.pipe(), os.pipe()
    os.write(errors, b"early error\n")
    os.write(output, b"early line\n")
    reads = 0
    read = script_module._read

    def read_while_it_writes(descriptor: int) -> bytes:
        """Between any two reads the script prints, and then fails."""
        nonlocal reads
        data = read(descriptor)
        reads += 1
        os.write(output, b"line %d\n" % reads)
        os.write(errors, b"error %d\n" % reads)
        return data

    monkeypatch.setattr(script_module, "_read", read_while_it_writes)
    with selectors.DefaultSelector() as selector:
        selector.register(from_output, selectors.EVENT_READ, "output")
        selector.register(from_errors, selectors.EVENT_READ, "errors")
        rounds = [script_module._arrived(selector, 0) for _ in range(4)]
    for descriptor in (from_output, output, from_errors, errors):
        os.close(descriptor)
    lines = b"".join(data for arrived in rounds for _, data in arrived).split(b"\n")
    assert lines.index(b"early line") < lines.index(b"early error")
    for number in range(1, 6):
        assert lines.index(b"line %d" % number) < lines.index(b"error %d" % number)
