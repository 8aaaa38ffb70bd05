"""The page of a large search: how large report.html is, how long it takes to write, and to be drawn by a browser.

Usage: .venv/bin/python scripts/bench/report_page.py [--out OUT.json]
The report is made up (tests/support/reports.py): trials that were stopped, paused and failed, six settings. Drawing is
measured in Chromium, where it is installed, until every chart is there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from modelopt_cli.results.page.page import render
from tests.support.reports import search

SIZES = ((40, 10), (200, 50), (1000, 100))
TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    rows: list[dict[str, float | None]] = []
    render(search(5))  # pays for imports, and puts Vega's scripts into the cache
    for trials, steps in SIZES:
        report = search(trials, steps)
        seconds, page = [], ""
        for _ in range(TURNS):
            begun = time.perf_counter()
            page = render(report)
            seconds.append(time.perf_counter() - begun)
        size = len(page.encode()) / 1e6
        row: dict[str, float | None] = {"trials": trials, "steps": steps, "MB": size, "write s": median(seconds)}
        rows.append({**row, "draw s": drawn(page)})
    print(f"{'trials':>7} {'steps':>6} {'MB':>6} {'write s':>8} {'draw s':>7}")
    for row in rows:
        shown = "–" if row["draw s"] is None else f"{row['draw s']:.1f}"
        print(f"{row['trials']:>7} {row['steps']:>6} {row['MB']:>6.2f} {row['write s']:>8.3f} {shown:>7}")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


def drawn(page: str) -> float | None:
    """Seconds from opening the page until every chart is drawn; None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder, "report.html")
        file.write_text(page)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shown: Any = browser.new_page()
        begun = time.perf_counter()
        shown.goto(file.as_uri())
        shown.wait_for_selector("html[data-ready]", timeout=300_000)
        seconds = time.perf_counter() - begun
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
