"""Lines that a script may print: none hangs or kills anything, and later ones are read."""

from __future__ import annotations

import math
import selectors
import sys
import time
from pathlib import Path

import pytest

from modelopt_cli.core.errors import TrialError
from modelopt_cli.workflows.runs import script as script_module
from modelopt_cli.workflows.runs.script import ScriptRun
from modelopt_cli.workflows.runs.script_lines import LAST_STEP, LONGEST, Lines, metrics_of
from tests.support.waiting import FOREVER, PATIENCE, until

ODD = {
    "step NaN": (b'{"step": NaN, "loss": 1.0}', None),
    "step Infinity": (b'{"step": -Infinity, "loss": 1.0}', None),
    "step 1e300": (b'{"step": 1e300, "loss": 1.0}', None),
    "step 2**63": (b'{"step": 9223372036854775808, "loss": 1.0}', None),
    "step of a clock": (b'{"step": 1764480000000000000, "loss": 1.0}', None),
    "step of 5000 digits": (b'{"step": 1' + b"0" * 5000 + b', "loss": 1.0}', None),
    "the last step": (b'{"step": 1000000000000000, "loss": 1.0}', (LAST_STEP, {"loss": 1.0})),
    "step true": (b'{"step": true, "loss": 1.0}', (None, {"loss": 1.0})),
    "negative step": (b'{"step": -1, "loss": 1.0}', (-1, {"loss": 1.0})),
    "value of 400 digits": (b'{"loss": 1' + b"0" * 400 + b"}", (None, {"loss": math.inf})),
    "value of 5000 digits": (b'{"loss": -1' + b"0" * 5000 + b"}", (None, {"loss": -math.inf})),
    "deep": (b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b', "loss": 1.0}', None),
    "too long": (b'{"loss": 1.0, "text": "' + b"x" * LONGEST + b'"}', None),
    "no UTF-8": (b'{"loss": 1.0, "text": "\xff\xfe"}', (None, {"loss": 1.0})),
    "NUL": (b'{"loss": 1.0}\x00', None),
    "a key twice": (b'{"loss": 2.0, "loss": 1.0}', (None, {"loss": 1.0})),
    "half a surrogate": (b'{"\\ud800": 2.0, "loss": 1.0}', (None, {"loss": 1.0})),
    "an escape": (b'{"\\u001b[31m": 2.0, "loss": 1.0}', (None, {"loss": 1.0})),
    "a name that is long": (b'{"' + b"n" * 300 + b'": 2.0, "loss": 1.0}', (None, {"loss": 1.0})),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_line_is_ordinary_output_or_what_it_says(name: str) -> None:
    line, expected = ODD[name]
    assert metrics_of(line) == expected


def test_lines_are_cut_whatever_comes_in_which_pieces() -> None:
    data = b"first\r\n\rsecond\nthird" + b"x" * (3 * LONGEST) + b"\nlast"
    for size in (1000, 65_536, len(data)):
        lines, pieces = Lines(), []
        for start in range(0, len(data), size):
            pieces += lines.cut(data[start : start + size])
        pieces += lines.last()
        assert [line[:6] for line in pieces] == [b"first", b"second", b"thirdx", b"last"]
        assert max(map(len, pieces)) == LONGEST + 1, "of a long line the beginning is kept"


def run(tmp_path: Path, text: str, **options: object) -> tuple[list[int], dict[str, float], ScriptRun]:
    path = tmp_path / "script.py"
    path.write_text(text)
    script = ScriptRun([sys.executable, str(path)], folder=str(tmp_path), seed=0, **options)  # type: ignore[arg-type]
    reported, deadline = [], time.monotonic() + PATIENCE
    try:
        while script.step < script.total:
            assert time.monotonic() < deadline
            reported += [step for step, _ in script.advance(sys.maxsize)]
        return reported, dict(script.metrics()), script
    finally:
        script.close()


@pytest.mark.parametrize("where", ["sys.stdout.buffer", "open(os.environ['MODELOPT_METRICS'], 'ab')"])
def test_after_any_line_the_later_ones_are_read(tmp_path: Path, where: str) -> None:
    odd = [line for line, _ in ODD.values()]
    text = (
        f"import os, sys\nout = {where}\n"
        f"for line in {odd!r}:\n    if not line.startswith(b'{{\"step\": -1'): out.write(line + b'\\n')\n"
        "out.write(b'x' * 20_000_000 + b'\\n')\n"
        "for _ in range(3000): out.write(b'y' * 99 + b'\\n')\n"
        'out.write(b\'{"step": 1000000000000001, "loss": 3}\\n{"loss": 5.0}\')\nout.flush()\n'
    )
    reported, metrics, _ = run(tmp_path, text)
    assert reported == [LAST_STEP]
    assert metrics["loss"] == 5.0


def test_what_is_wrong_is_told_where_nothing_else_was_reported(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r'no metrics.*printed last: \{"step": NaN, "loss": 1.0\}'):
        run(tmp_path, 'print(\'{"step": NaN, "loss": 1.0}\')')


def test_a_script_may_close_its_output_and_read_its_input(tmp_path: Path) -> None:
    text = (
        "import os, sys\nassert sys.stdin.read() == ''\nprint('{\"step\": 1, \"loss\": 1}', flush=True)\n"
        "os.close(1)\nos.close(2)\nopen(os.environ['MODELOPT_METRICS'], 'a').write('{\"late\": 2}\\n')\n"
    )
    assert run(tmp_path, text)[:2] == ([1], {"loss": 1.0, "late": 2.0})


def test_a_child_that_holds_the_pipe_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell's `> >(tee log)` is."""
    monkeypatch.setattr(script_module, "_GRACE", PATIENCE)
    text = (
        "import os, time\nparent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n    while os.getppid() == parent: time.sleep(0.01)\n    time.sleep(0.3)\n"
        "    print('{\"loss\": 2}', flush=True)\n    os._exit(0)\n"
        "print('{\"loss\": 1}', flush=True)\n"
    )
    assert run(tmp_path, text)[1] == {"loss": 2.0}


def test_a_child_that_stays_is_waited_for_a_moment_only(tmp_path: Path) -> None:
    text = f"import os, time\nif os.fork() == 0: time.sleep({FOREVER})\nprint('{{\"loss\": 1}}', flush=True)\n"
    assert run(tmp_path, text)[1] == {"loss": 1.0}


def test_what_is_in_the_pipe_counts_however_long_nobody_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where this process was stopped, or the machine was, between the script's end and a look at its output."""
    monkeypatch.setattr(script_module, "_GRACE", 0.0)
    arrived = script_module._arrived

    def slowly(selector: selectors.BaseSelector, patience: float) -> list[tuple[selectors.SelectorKey, bytes]]:
        time.sleep(0.3)
        return arrived(selector, patience)

    monkeypatch.setattr(script_module, "_arrived", slowly)
    stays = f"import os, time\nif os.fork() == 0: time.sleep({FOREVER})\n"
    assert run(tmp_path, stays + "print('{\"loss\": 1}', flush=True)\n")[1] == {"loss": 1.0}


@pytest.mark.parametrize(
    "change", ["os.remove(path)", "os.remove(path); os.mkfifo(path)", "os.remove(path); os.mkdir(path)"]
)
def test_the_metrics_file_may_go(tmp_path: Path, change: str) -> None:
    text = f"import os\npath = os.environ['MODELOPT_METRICS']\n{change}\nprint('{{\"loss\": 1}}')\n"
    assert run(tmp_path, text)[1] == {"loss": 1.0}


def test_a_script_that_prints_steps_without_end_waits_until_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text('step = 0\nwhile True:\n    step += 1\n    print(\'{"step": %d, "loss": 1}\' % step)\n')
    script = ScriptRun([sys.executable, str(path)], folder=str(tmp_path), seed=0)
    try:
        assert [step for step, _ in _first(script, 1)] == [1]
        ahead = lambda: len(script._ahead)  # noqa: E731  (private: what is held back is not to be seen)
        until(lambda: ahead() >= 10_000, "that it runs ahead as far as it may")
        time.sleep(0.2)
        assert [step for step, _ in _first(script, 2)] == [2]
        assert ahead() <= 10_000
    finally:
        script.close()


def _first(script: ScriptRun, until: int) -> list[tuple[int, object]]:
    while not (reports := script.advance(until)):
        pass
    return list(reports)


def test_a_script_of_too_many_metrics_keeps_the_first(tmp_path: Path) -> None:
    text = "for i in range(5000): print('{\"m%d\": 1}' % i)\nprint('{\"m0\": 7}')"
    metrics = run(tmp_path, text)[1]
    assert len(metrics) == 1000
    assert metrics["m0"] == 7


def test_it_has_a_time_limit_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"longer than command.timeout \(0.3 s\)") as caught:
        run(tmp_path, f"import time; time.sleep({FOREVER})", timeout=0.3)
    assert caught.value.kind == "timeout"


def test_a_suspended_script_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        'import time\nfor s in range(1, 4):\n    print(\'{"step": %d, "loss": 1}\' % s, flush=True)\n'
        "    time.sleep(0.2)\n"
    )
    script = ScriptRun([sys.executable, str(path)], folder=str(tmp_path), seed=0)
    try:
        assert [step for step, _ in _first(script, 1)] == [1]
        assert script.suspend()
        stat = Path(f"/proc/{script._process.pid}/stat")  # private: the process has no other name
        rests = lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "TZ"  # noqa: E731
        until(rests, "that it rests, or has ended by then")
        time.sleep(0.3)
        assert rests(), "it stays so"
        assert [step for step, _ in _first(script, 2)] == [2]
        assert [step for step, _ in _first(script, 3)] == [3]
        assert script.known_total is None
        while script.step < script.total:
            script.advance(sys.maxsize)
        assert script.known_total == 3
    finally:
        script.close()
