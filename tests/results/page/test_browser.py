"""report.html in a real browser: nothing goes wrong, nothing is asked of the network, every chart is there, clicks
work.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelopt_cli.results import charts
from modelopt_cli.results.page.page import render
from tests.support.reports import REPORTS, search

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra dev has it)")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page in the browser, and what went wrong in it."""

    page: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def opened(browser: Any, file: Path, *, theme: str = "light", width: int = 1200) -> Opened:
    shown = Opened(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme))
    page = shown.page
    page.on(
        "console", lambda message: shown.problems.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: shown.problems.append(str(error)))
    page.on("request", lambda request: shown.requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector(f"html[data-ready={theme}]", timeout=120_000)
    return shown


def written(tmp_path: Path, name: str) -> tuple[Path, set[str]]:
    report = REPORTS[name]()
    file = tmp_path / f"{name}.html"
    file.write_text(render(report))
    return file, set(charts.all_of(report))


MARKS = """panels => panels.map(panel => ({
    chart: panel.closest('figure').dataset.chart,
    marks: [...panel.querySelectorAll('svg g.mark-group.role-frame g[class*=role-mark] > *')]
        .filter(mark => { const box = mark.getBoundingClientRect(); return box.width + box.height > 0; }).length,
    wide: panel.querySelector('svg')?.getBoundingClientRect().width ?? 0,
    alt: panel.closest('[role=img]').getAttribute('aria-label'),
}))"""


@pytest.mark.parametrize("name", REPORTS)
def test_every_chart_is_drawn_without_an_error_or_a_request(browser: Any, tmp_path: Path, name: str) -> None:
    file, kinds = written(tmp_path, name)
    shown = opened(browser, file, theme="dark" if name in ("front", "units") else "light")
    panels = shown.page.eval_on_selector_all(".drawing", MARKS)
    assert {panel["chart"] for panel in panels} == kinds
    for panel in panels:
        assert panel["marks"] >= 1, panel
        assert panel["wide"] >= 100, panel
        assert panel["alt"], panel
    assert shown.problems == []
    assert shown.requests == [file.as_uri()]
    assert shown.page.evaluate("window.hacked") is None
    assert shown.page.query_selector_all("img") == []
    shown.page.close()


@pytest.mark.parametrize("name", ["front", "units"])
def test_a_page_fits_a_phone(browser: Any, tmp_path: Path, name: str) -> None:
    shown = opened(browser, written(tmp_path, name)[0], width=360)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert shown.problems == []
    shown.page.close()


def test_a_click_on_a_trial_shows_it(browser: Any, tmp_path: Path) -> None:
    shown = opened(browser, written(tmp_path, "search")[0])
    page, report = shown.page, search()
    rows = {row["trial"]: row for row in report.records("trials")}
    for chart, mark in (
        ("history", "path[aria-roledescription=point]"),
        ("slices", "path[aria-roledescription=point]"),
        ("timeline", "path[aria-roledescription=bar]"),
        ("curves", "path[aria-roledescription=point]"),
        ("failures", "path[aria-roledescription=bar]"),
        ("parallel", "g.mark-path path"),
    ):
        page.locator(f"#chart-{chart} {mark}").first.dispatch_event("click", {"bubbles": True})
        page.wait_for_selector("dialog[open]", timeout=120_000)
        number = int(page.get_attribute("dialog", "data-trial"))
        assert page.inner_text("#trial-title") == f"Trial {number}"
        settings = page.inner_text("#trial-settings")
        assert "training.optimizer.lr" in settings
        assert f"{rows[number]['model.hidden.0']}" in settings
        page.click("#trial-close")
    failed = next(number for number, row in rows.items() if row["state"] == "failed")
    page.locator(f"#trials-table tr[data-trial='{failed}']").click()
    assert page.inner_text("#trial-reason").startswith("</script><img")  # as text
    page.click("#trial-close")
    complete = next(number for number, row in rows.items() if row["state"] == "completed")
    page.evaluate(f"modelopt.showTrial({complete})")
    page.wait_for_selector("#trial-curve svg [role=graphics-symbol]", state="attached", timeout=120_000)
    assert shown.problems == []
    assert page.evaluate("window.hacked") is None
    page.close()


def test_a_brush_on_an_axis_keeps_the_trials_that_pass_there(browser: Any, tmp_path: Path) -> None:
    shown = opened(browser, written(tmp_path, "search")[0])
    page = shown.page
    page.locator("#chart-parallel").scroll_into_view_if_needed()
    text = page.locator("#chart-parallel g.mark-text text").last
    whole = text.text_content()
    box = page.locator("#chart-parallel g[class*=grip] path").last.bounding_box()
    x, top = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, top + 5)
    page.mouse.down()
    page.mouse.move(x, top + box["height"] * 0.1, steps=4)
    page.mouse.move(x, top + box["height"] * 0.25, steps=4)
    page.mouse.up()
    kept = text.text_content()
    assert kept != whole
    assert 0 <= int(kept.split()[0]) < int(whole.split()[0])
    assert shown.problems == []
    page.close()


def test_tables_sort_and_the_theme_turns(browser: Any, tmp_path: Path) -> None:
    shown = opened(browser, written(tmp_path, "search")[0])
    page = shown.page
    column = "#trials-table tbody tr td:nth-child(3)"
    page.locator("#trials-table thead th").nth(2).click()
    values = [float(text) for text in page.locator(column).all_inner_texts() if text != "–"]
    assert values == sorted(values)
    page.locator("#trials-table thead th").nth(2).click()
    values = [float(text) for text in page.locator(column).all_inner_texts() if text != "–"]
    assert values == sorted(values, reverse=True)
    page.click("#theme")
    page.wait_for_selector("html[data-ready=dark]", timeout=120_000)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 29)"
    assert shown.problems == []
    page.close()


def test_it_can_be_printed(browser: Any, tmp_path: Path) -> None:
    shown = opened(browser, written(tmp_path, "training")[0])
    assert shown.page.pdf().startswith(b"%PDF")
    shown.page.emulate_media(media="print")
    assert not shown.page.is_visible("#theme")
    shown.page.close()


def test_new_data_are_drawn_in_place(browser: Any, tmp_path: Path) -> None:
    """What a served page does while its search goes on: the open trial stays open."""
    from modelopt_cli.results.page.page import data_of

    shown = opened(browser, written(tmp_path, "search")[0])
    page = shown.page
    page.evaluate("modelopt.showTrial(3)")
    page.evaluate("data => modelopt.update(data)", data_of(search(trials=60)))
    assert page.locator("#trials-table tbody tr").count() == 60
    assert page.is_visible("dialog[open]")
    assert shown.problems == []
    page.close()
