"""Whatever a logger does or suffers, the run goes on: it hears of it in a warning, and waits for a bounded time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.results.deliveries.delivery import Delivery
from modelopt_cli.results.loggers import OWN, Begun, Ended, Location, Points
from tests.support.fake_loggers import Noted, calls

pytestmark = pytest.mark.slow  # each logger is a process


Records = list[Begun | Points | Ended]


def deliver(tmp_path: Path, records: Records, limit: float | None = None, **options: Any) -> Delivery:
    logger = Noted(path=str(tmp_path / "calls"), **options)
    delivery = Delivery(logger, Location("n", "n/1", tmp_path, tmp_path))
    for record in records:
        delivery.put(record)
    delivery.close(limit)
    return delivery


def a_run(run: str = OWN) -> Records:
    points = [Points(run, [(step, {"loss": 1.0 / step})]) for step in (1, 2, 3)]
    return [Begun(run, {"lr": 0.1}, {"tag": "x"}), *points, Ended(run, "completed", "", {"final/loss": 0.3})]


def test_all_is_handed_over_in_order(tmp_path: Path) -> None:
    own = a_run()
    delivery = deliver(tmp_path, [own[0], *a_run("trial-0"), *a_run("trial-1"), *own[1:]])
    assert not delivery.warnings
    assert delivery.where == f"cat {tmp_path / 'calls'}"
    made = calls(tmp_path / "calls")
    for run in (OWN, "trial-0", "trial-1"):
        of_run = [call for call in made if call.get("run") == run]
        assert of_run[0]["call"] == "begin"
        assert of_run[-1]["call"] == "end"
        points = [point for call in of_run if call["call"] == "log" for point in call["points"]]
        assert points == [[1, {"loss": 1.0}], [2, {"loss": 0.5}], [3, {"loss": 1.0 / 3}]]
    assert [made[0]["call"], made[-1]["call"]] == ["open", "close"]


def test_numbers_and_texts_arrive_as_they_are(tmp_path: Path) -> None:
    odd = "é<b>\x1b[31m\n\ud800 \U0001f600"
    metrics = {odd: math.inf, "nan": math.nan}
    deliver(tmp_path, [Begun(OWN, {odd: odd}), Points(OWN, [(1, metrics)]), Ended(OWN, "failed", odd)])
    begin, log, end = calls(tmp_path / "calls")[1:4]
    assert begin["settings"] == {odd: odd}
    assert log["points"][0][1][odd] == math.inf
    assert math.isnan(log["points"][0][1]["nan"])
    assert end["reason"] == odd


def test_a_later_process_goes_on_and_logs_nothing_twice(tmp_path: Path) -> None:
    own = a_run()
    deliver(tmp_path, [own[0], *a_run("trial-0"), own[1], Ended(OWN, "interrupted")])
    (tmp_path / "calls").unlink()
    with next((tmp_path / ".loggers").iterdir()).open("a") as stream:
        stream.write('{"run": "tri')  # the last line of a process that was killed
    deliver(tmp_path, [own[0], *a_run("trial-0"), *a_run("trial-1"), *own[1:]])
    made = calls(tmp_path / "calls")
    assert [(call["run"], call["known"]) for call in made if call["call"] == "go on"] == [(OWN, "id of ")]
    assert [call["run"] for call in made if call["call"] == "begin"] == ["trial-1"]
    steps = [step for call in made if call["call"] == "log" and call["run"] == OWN for step, _ in call["points"]]
    assert steps == [2, 3]


@pytest.mark.parametrize("call", ["open", "begin", "log", "end", "close"])
@pytest.mark.parametrize("way", ["raise", "exit"])
def test_what_a_package_raises_is_one_warning(tmp_path: Path, call: str, way: str) -> None:
    delivery = deliver(tmp_path, a_run(), fails=f"{call}:{way}")
    (warning,) = delivery.warnings
    assert "The run itself goes on" in warning
    assert "secret" not in warning
    assert "\n" not in warning


def test_it_is_tried_again(tmp_path: Path) -> None:
    delivery = deliver(tmp_path, [*a_run(), *a_run("trial-0"), *a_run("trial-1")], fails="begin", times=2)
    assert len(delivery.warnings) == 1
    assert [call["run"] for call in calls(tmp_path / "calls") if call["call"] == "end"] == ["trial-1"]


def test_after_five_failures_it_is_left_alone(tmp_path: Path) -> None:
    children = [record for number in range(20) for record in a_run(f"trial-{number}")]
    delivery = deliver(tmp_path, children, fails="begin")
    assert len(delivery.warnings) == 2
    assert "5 attempts failed" in delivery.warnings[1]


def test_a_crash_is_one_warning_with_the_packages_last_words(tmp_path: Path) -> None:
    delivery = deliver(tmp_path, a_run(), fails="log:crash")
    (warning,) = delivery.warnings
    assert "exit code 7" in warning
    assert "Fatal: the package crashed" in warning


@pytest.mark.parametrize("call", ["open", "log", "close"])
def test_a_logger_that_hangs_is_waited_for_so_long_as_the_file_says(tmp_path: Path, call: str) -> None:
    delivery = deliver(tmp_path, a_run(), fails=f"{call}:hang", wait=1.0)  # 1000 s would be too long for pytest
    (warning,) = delivery.warnings
    assert "did not come to an end" in warning


def test_one_that_is_slow_but_at_work_is_waited_for(tmp_path: Path) -> None:
    records = [record for number in range(8) for record in a_run(f"trial-{number}")]
    delivery = deliver(tmp_path, records, fails="end:slow", wait=60.0)
    assert not delivery.warnings
    assert sum(call["call"] == "begin" for call in calls(tmp_path / "calls")) == 8


def test_a_run_that_was_asked_to_stop_leaves_soon(tmp_path: Path) -> None:
    deliver(tmp_path, a_run(), limit=0.5, fails="log:hang", wait=600.0)  # too long for pytest
    assert not any(call["call"] == "end" for call in calls(tmp_path / "calls"))


def test_what_a_package_prints_goes_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    delivery = deliver(tmp_path, a_run(), fails="log:print")
    assert not delivery.warnings
    assert [call["call"] for call in calls(tmp_path / "calls")] == ["open", "begin", "log", "end", "close"]
    assert capfd.readouterr() == ("", "")


def test_runs_that_are_open_when_the_parent_dies_are_ended(tmp_path: Path) -> None:
    deliver(tmp_path, a_run()[:2])  # the end of its input is all that the process sees of that
    end = next(call for call in calls(tmp_path / "calls") if call["call"] == "end")
    assert end["status"] == "interrupted"
    assert "process that ran it has ended" in end["reason"]
